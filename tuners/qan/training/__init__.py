"""The training that is steered, from its data to what a decision changes. The agent is not known here.

One episode is a `SteeredTraining`: `fit`, again and again from new weights, with a `DecisionCallback`
that every so many steps

- reads the model (`probes`) and its validation metrics (`evaluation`) into a `View` (`view`),
- makes a `Report` of it for who decides (`report`): the observation by `states` and `filters`, and
  how far it is from the `Goal` (`goals`),
- and applies the decision, one of `actions`: to the optimizer (`optimizer_control`), and to which
  samples come next (`sample_selection`).

A search may begin with a training that is no episode (`warm_start`), and keep episodes near an
earlier one (`regressor`, `weight_path`).
"""
