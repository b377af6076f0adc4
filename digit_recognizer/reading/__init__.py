"""Reading new digits: pictures become digits like MNIST's; door: `preparation.prepare`."""
