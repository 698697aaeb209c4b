"""What the tests of runs and of the compute process share."""
