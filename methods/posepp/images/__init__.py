"""How an image comes to be: generators behind one protocol, and how well they follow their maps."""
