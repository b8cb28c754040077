"""What jobs may know of the models: names, layers, classes, told without loading torch here."""
