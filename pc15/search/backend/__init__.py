"""Steps of the search, by what runs them."""
