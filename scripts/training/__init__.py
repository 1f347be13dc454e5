"""How `train` reads its options, says what is wrong with them, and runs Lightning."""
