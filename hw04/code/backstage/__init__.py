"""What lstlm.py stands on: each module has one responsibility, and none of them imports lstlm."""
