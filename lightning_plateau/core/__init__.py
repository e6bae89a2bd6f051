"""The words of the library: frozen data, and the abstract Rule and Remedy. numpy only."""
