"""Other people's programs beside the lab, with the files of config/; `tests/lab/integrations` runs them."""
