"""Checks of single items: cases, what runs a student's code on them, what is said of the result."""
