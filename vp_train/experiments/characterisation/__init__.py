"""Characterisation of lesions in words (appendix D, Fig. 9): one prompted model against a classifier for each question.

`cases` draws studies with one known lesion and asks about it; `classifier` is the baseline of appendix D; `prompted`
trains α and m together, ε being all that α knows of an image; `comparison` judges both on the same cases.
"""
