"""A search for better settings of a recipe, and whether they are better on folds that it has not seen.

space: what is tried, checked once     search: candidates on equal folds     judge: the whole, in order
"""
