"""Scripts that make and measure what ships with the project; the service never imports them."""
