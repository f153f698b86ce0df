"""The grader: what is drawn for each item, the sandbox, submissions, points, reports."""
