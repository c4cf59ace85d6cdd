"""An assistant that looks at what you draw: the page's canvas goes to the model as an image."""
