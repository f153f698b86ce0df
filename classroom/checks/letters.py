"""The letters and ids of the stand-in for the second assignment's tokenizer."""

LETTERS = " ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
PAD, SOS, EOS = 0, 3, 4
VOCABULARY = 6 + len(LETTERS)
