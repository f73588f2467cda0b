"""The steps of a run in order: plan, search, baselines, ablation, roadmap, and what each of them needs.

`phase` runs one phase, `roadmap` all of them. What leads from a searched front to a verdict lies in `confirmation`,
what phase 4 adds in `release`; `late` keeps steps that only explain from ending a run. May use every package below it.
"""
