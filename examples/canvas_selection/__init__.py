"""An assistant that asks what is selected on a canvas: the model waits for the page's answer."""
