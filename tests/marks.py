"""Which tests start Ray and which are slow, told from their fixtures and from the literal lists below.

`make check` runs the rest. The marks are kept true: a test without the mark `ray` runs where Ray cannot start, nor can
any process that it starts (`ray_forbidden`), and one without `slow` that takes long is named at the end of the run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parent

RAY_FIXTURES = frozenset({"shared_ray", "roadmap", "deployment"})
"""Whoever asks for one of them, at however many removes, starts Ray."""
RAY = (
    "own/test_own_model_run.py",
    "search/execution/test_failures.py::test_a_worker_killed_by_rays_memory_monitor_is_out_of_memory",
    "search/execution/test_file_transfer.py::test_a_ray_that_the_run_starts_for_itself_needs_no_depot",
    "search/pipeline/test_ablation_run.py",
    "search/pipeline/test_resume.py",
    "search/pipeline/test_roadmap.py",
    "search/pipeline/test_roadmap_release.py",
    "search/run_store/test_run_on_s3.py",
    "docs/test_walkthrough.py",
)
"""Modules, or tests of a module, that start Ray by themselves or in a process of their own."""
SLOW: tuple[str, ...] = (
    "contracts/test_marks.py::test_a_process_of_an_unmarked_test_cannot_start_ray",
    "contracts/test_recipes.py::test_a_recipe_is_enough",
    "contracts/test_wheel.py::test_the_wheel_runs_from_an_empty_folder",
    "data/arrays/test_cache.py::test_ten_processes_at_once_open_one_dataset",
    "data/arrays/test_larger_than_memory.py",
    "models/test_export.py",
    "models/test_screening.py::test_products_are_exported_and_measured_as_they_score",
    "own/test_conformance.py::test_the_command_says_what_failed",
    "own/test_own_ranker.py::test_trainings_make_an_ensemble_that_exports",
    "probes/test_probes.py",
    "search/execution/test_faults.py::test_a_training_outlives_a_disk_that_is_full_for_a_while",
    "search/execution/test_job_training.py",
    "benchmarks/test_on_a_gpu.py",
    "contracts/test_imports.py::test_a_worker_loads_nothing_heavy_that_it_may_never_use",
    "integrity/test_leak_probes.py",
    "search/audit/test_judge.py::test_odd_scores_come_to_a_verdict_that_is_not_go",
    "search/pipeline/release/test_runtime_variants.py",
    "training/stack/test_meeting.py",
    "training/stack/test_stack.py",
    "contracts/test_layout.py::test_an_import_upward_is_found_wherever_it_stands",
    "search/experiment/test_ramp.py",
    "search/experiment/test_simulated.py",
    "search/monitoring/test_tracking.py::test_a_server_that_is_down_or_hangs_costs_a_line",
    "search/pipeline/confirmation/test_rungs_by_members.py::test_an_interrupted_short_list_goes_on_as_it_would_have",
    "search/study/test_in_order.py::test_an_interrupted_search_goes_on_with_the_same_proposals",
    "search/study/test_in_order.py::test_more_places_turn_nothing_off",
    "test_work.py::test_a_terminal_has_a_bar_with_the_time_left",
    "training/stack/test_groups.py::test_a_stack_without_room_is_halved_down_to_trainings_alone",
    "training/stack/test_member_dropout.py::test_a_member_trains_the_same_whoever_is_beside_it",
    "training/stack/test_sizing.py::test_every_size_is_measured_as_far_as_memory_goes",
    "search/reporting/test_terminal.py::test_a_command_in_a_pipe_prints_plain_lines_in_any_encoding",
    "search/reporting/test_terminal.py::test_a_command_in_a_real_terminal_keeps_within_its_columns",
    "search/study/test_stages.py"
    "::test_every_sampler_proposes_inside_the_space_with_stopped_and_failed_trials_behind_it",
    "search/test_api.py::test_importing_the_package_changes_nothing_in_the_process",
    "search/options/test_options.py::test_every_flag_has_help",
    "search/options/test_options.py::test_options_stand_before_or_after_the_phase",
    "search/audit/test_model.py::test_a_model_that_hangs_or_dies_costs_itself",
    "search/audit/test_model.py::test_our_own_recipe_exported_and_audited_has_the_numbers_of_the_run",
    "search/audit/test_audit_options.py::test_a_mistake_is_one_line_and_no_look",
    "docs/test_audit_page.py",
    "search/monitoring/test_tracking.py::test_mlflow_has_a_parent_and_a_child_a_training",
    "benchmarks/test_many_worlds.py",
    "benchmarks/test_pseudo_runs.py",
    "training/stack/test_equality.py",
    "training/test_optimiser.py::test_training_and_resuming_leave_the_compiler_alone",
    "training/test_process_group.py",
    "data/tables/test_random_tables.py::test_a_random_table_opens_as_arrow_reads_it_or_says_why_not",
    "integrity/test_spread_leaks.py",
    "metrics/intervals/test_ensembles.py::test_a_difference_of_arms_covers",
    "metrics/intervals/test_subdomains.py::test_level_is_five_per_cent_with_seeds_of_any_luck",
    "metrics/test_fusion.py::test_many_columns_are_tuned_about_as_well_as_by_the_whole_grid",
    "models/test_variants.py::test_exports",
    "search/audit/test_judge.py::test_and_never_without",
    "search/monitoring/test_tracking.py::test_wandb_writes_offline_runs_of_one_group",
    "search/study/test_in_order.py::test_luck_changes_nothing",
    "search/study/test_in_order.py::test_without_an_order_it_does",
    "training/test_memory.py::test_what_a_step_frees_the_next_one_has_without_a_page_fault",
)
"""Modules, or tests of a module, that take more than a few seconds without Ray."""
FOLDERS = {"cluster": "cluster", "browser": "browser", "gpu": "gpu"}
"""Folder -> the mark of all that is in it."""

SLOW_SECONDS = 10.0
"""From here on an unmarked test is named."""
FORBIDDEN = "/dev/null/this-test-is-not-marked-ray-see-tests-marks.py"
"""No folder can be made there, so Ray cannot start."""


def marks_of(path: Path, name: str, fixtures: Iterable[str]) -> set[str]:
    """The marks of a test function `name` in the file `path`, which asks for `fixtures`, at whatever removes."""
    here = path.relative_to(TESTS)
    keys = {here.as_posix(), f"{here.as_posix()}::{name}"}
    found = {mark for folder, mark in FOLDERS.items() if here.parts[0] == folder}
    if keys & set(RAY) or RAY_FIXTURES & set(fixtures):
        found.add("ray")
    if keys & set(SLOW):
        found.add("slow")
    return found


@contextmanager
def ray_forbidden() -> Iterator[None]:
    """While the block runs neither this process nor one that it starts can start Ray: its folder cannot be made.

    A Ray that another test of this process has started is none for this one, and not ended by it: else a test that no
    Ray comes up for would run there for real.
    """
    before, ray = os.environ.get("RAY_TMPDIR"), sys.modules.get("ray")
    os.environ["RAY_TMPDIR"] = FORBIDDEN
    stand_ins = {"is_initialized": lambda: False, "shutdown": lambda *_, **__: None}
    own = {name: getattr(ray, name) for name in stand_ins if hasattr(ray, name)}
    for name in own:
        setattr(ray, name, stand_ins[name])
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(ray, name, function)
        if before is None:
            del os.environ["RAY_TMPDIR"]
        else:
            os.environ["RAY_TMPDIR"] = before
