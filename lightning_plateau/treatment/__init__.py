"""From findings to a remedy on trial, and from the trial to its outcome."""
