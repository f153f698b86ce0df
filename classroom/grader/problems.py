"""What ends the grader with one line."""


class GradingError(Exception):
    """Something that the teacher can mend: a file, a rubric, a flag."""
