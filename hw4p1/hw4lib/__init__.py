"""A causal transformer decoder language model: data, model, decoding, trainers, utilities.

Nothing is imported here, so that importing one part does not load what only another needs.
"""
