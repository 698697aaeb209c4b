"""Rules that results are held against: each a function from a data set to what is wrong with it (`rules.json`)."""
