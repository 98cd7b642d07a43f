"""E2: what identified channels of low, middle and high layers look at, by three kinds of pictures."""
