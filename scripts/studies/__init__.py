"""The studies of `ablations`: their rows, how a row is trained and measured, and the page of what is finished."""
