"""The live training as remedies see it: read, changed and put back. Nothing here decides."""
