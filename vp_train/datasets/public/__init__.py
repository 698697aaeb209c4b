"""Public data sets, each in the layout in which it is published (`layouts/*.json`), with the meaning of its labels
(`tables/*.json`). Adding a data set is adding one file of each.
"""
