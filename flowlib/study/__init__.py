"""How the study is run and told: notebooks and their parameters, the thesis's claims, reports, publication."""
