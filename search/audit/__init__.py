"""The roadmap's review of a V2 that exists, from its scores or from its model: nothing is trained but trees.

`score_table` reads what a team gives, by the columns of `score_cells`, `given` makes outputs of it, `references` trains
the rankers that it is held against, `judge` takes the decision by any phase's gates, `missing` says what to add where a
gate could not be read, `audit` joins them and writes the run folder. May use pipeline, reporting and all below.
"""
