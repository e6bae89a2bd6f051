"""What is told to people: journal and history to text and plots. No torch."""
