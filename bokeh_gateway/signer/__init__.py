"""Who signs the tokens that users come with: his keys, and asking for them."""
