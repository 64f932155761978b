"""Every option of every command changes an outcome, or is refused in one sentence where it has none.

``SHOWN`` names, for every option, the test that shows what it changes; an option added later needs an entry here.
``REFUSED`` holds the combinations in which an option would have no effect.
"""

import ast
import functools
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.model import give_own_attention, make_model, write_images
from tests.helpers.raw_dataset import write_dataset
from tests.helpers.tiny import workspace_of_balls
from unetrpp.__main__ import commands, main
from unetrpp.cli import (
    attention_report,
    completion,
    cost,
    demo,
    doctor,
    evaluate,
    export_model,
    find_best,
    import_model,
    predict,
    report,
    serve,
)
from unetrpp.core.command_line import Parser
from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion import convert
from unetrpp.dataset_conversion.datasets import layout_names
from unetrpp.planners import plan_and_preprocess, plan_report
from unetrpp.planners.pipeline import plan_and_preprocess as plan
from unetrpp.trainers import train

TESTS = Path(__file__).parent

PARSERS: dict[str, Callable[[], Parser]] = {
    "convert folder": convert.folder_parser,
    **{f"convert {name}": partial(convert.dataset_parser, name) for name in layout_names()},
    "plan-and-preprocess": plan_and_preprocess.build_parser,
    "plan-report": plan_report.build_parser,
    "train": train.build_parser,
    "predict": predict.build_parser,
    "evaluate": evaluate.build_parser,
    "find-best": find_best.build_parser,
    "report": report.build_parser,
    "attention-report": attention_report.build_parser,
    "cost": cost.build_parser,
    "export": export_model.build_parser,
    "import": import_model.build_parser,
    "demo": demo.build_parser,
    "serve": serve.build_parser,
    "completion": completion.build_parser,
    "doctor": doctor.build_parser,
}

EVERY_COMMAND = {
    "--version": "core/test_command_line.py::test_version",
    "--debug": "core/test_command_line.py::test_exit_codes",
    "--json": "core/test_command_line.py::test_json_is_all_that_is_printed",
}

_CLUSTER = "cli/test_executor.py::test_every_step_runs_on_a_cluster_that_loses_a_worker"
_CONVERSION, _SKIPPED = "dataset_conversion/test_convert.py::", "dataset_conversion/test_skip_unreadable.py::"
_OWN = "dataset_conversion/own_folder/"
CONVERT = {
    "--workspace": _CONVERSION + "test_python_and_the_command_do_the_same",
    "--name": _CONVERSION + "test_four_dimensions_become_one_file_per_channel",
    "--skip-unreadable": _SKIPPED + "test_every_defect_is_refused_or_named_while_the_others_are_converted",
    "--overwrite": _CONVERSION + "test_other_options_for_one_dataset_are_refused",
    "--processes": _CONVERSION + "test_python_and_the_command_do_the_same",
    "--executor": _CLUSTER,
}
_PLAN, _PIPELINE = "planners/test_plan_and_preprocess.py::", "planners/test_pipeline.py::"
_FOLDS, _TRAINER = "trainers/test_folds.py::", "trainers/test_trainer.py::"
_RECORDED = _FOLDS + "test_the_command_trains_and_records_the_given_options"
_RESUMED = "trainers/test_trainer.py::test_an_interrupted_run_ends_bit_identical"
_FOLDER, _PREDICT = "inference/test_folder.py::", "inference/test_predict.py::"
_CLASSES = "inference/test_classes_in_files.py::"
_REACH = "inference/test_options.py::test_all_options_reach_the_predictor"
CONVERT_DATASET = {
    "--link": "dataset_conversion/test_conversion.py::test_links_stand_for_files_that_can_stay_as_they_are",
    "--skip-known-broken": "dataset_conversion/test_conversion.py::test_known_broken_cases_are_named_and_left_out_on_request",
}
_EVALUATE, _REPORT, _ATTENTION = (f"cli/test_{name}.py::" for name in ("evaluate", "report", "attention_report"))
_VALIDATED = "report/test_validated_cases.py::"
_BEST = "evaluation/test_find_best.py::test_find_best_and_predict_with_it"
_EXPORT, _IMPORT = "cli/test_export_model.py::", "cli/test_import_model.py::"
_CALIBRATION = "evaluation/test_calibration.py::"
_HERE = "test_options.py::"
_COST = "cli/test_cost.py::test_choices"
_SERVE = "cli/test_serve.py::"
_DEMO = _HERE + "test_the_demo_passes_its_options_on"

# Options that only one dataset has.
_DATASETS = "dataset_conversion/datasets/test_"
_PROTOCOL = "dataset_conversion/test_protocols.py::"
_PROTOCOLS = {
    "--protocol": _PROTOCOL + "test_cases_of_the_table_are_test_cases_and_others_of_no_list_stay_out",
    "--validate-on-test": _PROTOCOL + "test_the_published_validation_is_on_the_test_cases_when_asked_for",
}
DATASET_OPTIONS: dict[str, dict[str, str]] = {
    "bids": {
        "--suffix": _DATASETS + "bids.py::test_other_channels_come_from_the_same_session",
        "--labels": _DATASETS + "bids.py::test_labels_of_other_images_are_not_taken_and_classes_are_named",
        "--derivatives": _DATASETS + "bids.py::test_images_and_labels_without_a_partner_are_named",
    },
    "coco": {
        "--annotations": _DATASETS + "coco.py::test_small_objects_lie_on_large_ones_and_a_dataset_can_be_trained",
        "--test-annotations": _DATASETS + "coco.py::test_small_objects_lie_on_large_ones_and_a_dataset_can_be_trained",
    },
    "dicom": {
        "--roi": _DATASETS + "dicom.py::test_without_rois_all_names_are_listed",
        "--modality": _DATASETS + "dicom.py::test_the_modality_is_asked_for_where_several_have_labels",
        "--allow-missing-rois": _DATASETS + "dicom.py::test_classes_that_a_case_lacks_can_be_allowed",
    },
    "seg-nrrd": {
        "--segment": _DATASETS + "seg_nrrd.py::test_pairs_go_from_slicer_to_training",
        "--channel": _DATASETS + "seg_nrrd.py::test_the_channel_and_the_segments_are_asked_for",
        "--allow-missing-segments": _DATASETS + "seg_nrrd.py::test_classes_that_a_case_lacks_can_be_allowed",
    },
    "acdc": _PROTOCOLS,
    "brats": {
        "--year": "dataset_conversion/datasets/test_brats.py::test_regions_are_made_of_the_editions_own_values",
    },
    "btcv": _PROTOCOLS,
    "msd": _PROTOCOLS,
    "synapse": _PROTOCOLS,
    "amos": {"--modality": _DATASETS + "amos.py::test_the_modality_chooses_scans_and_channel"},
    "chaos": {"--scans": _DATASETS + "chaos.py::test_labels_of_ct_follow_the_names_of_the_slices"},
    "kits": {
        "--year": _DATASETS + "kits.py::test_a_year_that_nothing_tells_has_to_be_given",
        "--aggregation": _DATASETS + "kits.py::test_annotations_of_2021_are_chosen_by_aggregation",
        "--regions": _DATASETS + "kits.py::test_regions_of_2023_are_those_of_the_challenge",
    },
    "totalsegmentator": {"--classes": _DATASETS + "totalsegmentator.py::test_chosen_classes_go_to_training"},
}

SHOWN: dict[str, dict[str, str]] = {
    **{f"convert {name}": CONVERT | CONVERT_DATASET | DATASET_OPTIONS.get(name, {}) for name in layout_names()},
    "convert folder": CONVERT
    | {
        "--images": _CONVERSION + "test_patterns_find_nested_layouts_and_mixed_formats_are_rewritten",
        "--labels": _CONVERSION + "test_patterns_find_nested_layouts_and_mixed_formats_are_rewritten",
        "--test-images": _CONVERSION + "test_python_and_the_command_do_the_same",
        "--channel": _CONVERSION + "test_photographs_stay_in_colour_and_instances_become_one_class",
        "--label": _CONVERSION + "test_undeclared_labels_are_named_with_their_file",
        "--foreground-from-instances": _CONVERSION + "test_photographs_stay_in_colour_and_instances_become_one_class",
        "--test-labels": _OWN + "test_test_cases.py::test_labels_of_test_cases_are_written_beside_their_images",
        "--hold-out": _OWN
        + "test_test_cases.py::test_a_number_of_cases_is_held_out_and_stays_so_when_the_source_grows",
        "--label-file": _OWN + "test_classes.py::test_a_file_lists_the_classes_or_only_names_those_that_are_found",
        "--labels-from-files": _OWN + "test_classes.py::test_all_values_are_taken_from_the_files_also_of_test_cases",
        "--masks": "dataset_conversion/test_masks.py::test_named_masks_are_painted_in_their_order_and_overlaps_are_said_once",
        "--allow-missing-masks": "dataset_conversion/test_masks.py::test_an_absent_mask_is_refused_unless_the_option_says_what_it_means",
    },
    "plan-and-preprocess": {
        "--executor": _CLUSTER,
        "--workspace": _PIPELINE + "test_the_result_says_what_was_planned_and_where",
        "--configurations": _PLAN + "test_configurations_are_added_and_edits_survive",
        "--planner": "planners/test_planner.py::test_every_planner_plans_and_gives_reasons",
        "--plans-name": _PLAN + "test_half_precision_is_read_as_float32_and_close",
        "--batch-size": "planners/rules/test_patch_and_batch.py::test_a_requested_batch_shrinks_the_patch",
        "--width": _PLAN + "test_everything_is_written_and_a_second_run_redoes_only_what_changed",
        "--gpu-memory-gb": "planners/rules/test_patch_and_batch.py::test_a_requested_batch_shrinks_the_patch",
        "--checkpointing": "planners/rules/test_checkpointing.py::test_it_is_planned_where_it_is_asked_for",
        "--spacing": "planners/rules/test_spacing.py::test_the_grid_is_in_plan_order_and_has_the_requested_spacing",
        "--patch": _PIPELINE + "test_the_result_says_what_was_planned_and_where",
        "--preset": "planners/test_planner.py::test_a_preset_fixes_patch_and_network",
        "--mirror": "planners/rules/test_mirroring.py::test_the_axes_can_be_given",
        "--attention": _PLAN + "test_attention_is_placed_once_by_the_labels_or_as_requested",
        "--loss": _PLAN + "test_loss_and_attention_are_chosen_apart",
        "--place": _PLAN + "test_attention_is_placed_once_by_the_labels_or_as_requested",
        "--group-by": _PLAN + "test_one_case_and_groups",
        "--store": _PLAN + "test_half_precision_is_read_as_float32_and_close",
        "--processes": _PLAN + "test_a_raw_folder_by_path",
        "--fix": "planners/test_repair.py::test_the_command_refuses_without_fix_and_goes_on_with_it",
        "--plan-only": _PLAN + "test_another_description_is_measured_and_verified_again",
        "--skip-unreadable": "planners/test_skip_unreadable.py::test_every_defect_is_an_error_or_a_named_omission",
        "--overwrite": _PLAN + "test_overwriting_leaves_other_plans_alone_and_a_refusal_leaves_everything",
    },
    "plan-report": {
        "--workspace": "planners/test_plan_report.py::test_the_report_names_every_decision_and_draws_a_picture",
        "--plans-name": "planners/test_plan_report.py::test_the_report_names_every_decision_and_draws_a_picture",
        "--picture": "planners/test_plan_report.py::test_the_report_names_every_decision_and_draws_a_picture",
        "--html": "planners/test_plan_report.py::test_html_writes_one_page_and_replaces_nothing_else",
    },
    "train": {
        "--workspace": _RECORDED,
        "--plans-name": _FOLDS + "test_what_is_not_preprocessed_or_planned_is_refused",
        "--epochs": _FOLDS + "test_extending_and_overwriting",
        "--iterations": _RECORDED,
        "--recipe": "trainers/test_recipe.py::test_nnunets_recipe_by_name",
        "--lr": _RECORDED,
        "--optimizer": "trainers/test_recipe.py::test_optimisers_by_option_and_by_length",
        "--warmup": _RESUMED,
        "--weight-decay": _RESUMED,
        "--drop-path": _RESUMED,
        "--ema": _RESUMED,
        "--seed": _RECORDED,
        "--precision": _RECORDED,
        "--max-hours": _TRAINER + "test_hours_end_a_run_and_count_across_resumes",
        "--patience": _TRAINER + "test_patience_ends_a_run_that_gets_no_better",
        "--augmentation": _TRAINER + "test_an_interrupted_run_ends_bit_identical",
        "--trainer": "test_documented_extension.py::test_the_page_runs",
        "--learn-attention": _FOLDS + "test_each_fold_may_learn_attention_or_not",
        "--pretrained": _FOLDS + "test_a_fold_starts_from_another_training_and_records_it",
        "--device": _RECORDED,
        "--threads": _TRAINER + "test_an_interrupted_run_ends_bit_identical",
        "--devices": "trainers/test_side_by_side.py::test_folds_side_by_side_equal_folds_one_after_the_other",
        "--compute-threads": "trainers/test_compute_threads.py::test_the_users_number_waits_for_the_end_of_an_epoch_in_a_resumed_fold",
        "--no-compile": "trainers/test_compilation.py::test_it_is_tried_on_cuda_unless_told_otherwise",
        "--tracker": "trainers/test_tracking.py::test_an_unknown_tracker_is_refused_before_a_fold_is_deleted",
        "--no-mirroring": _RECORDED,
        "--continue": _FOLDS + "test_extending_and_overwriting",
        "--overwrite": _FOLDS + "test_extending_and_overwriting",
    },
    "predict": {
        "--executor": _CLUSTER,
        "--workspace": _BEST,
        "--input": _PREDICT + "test_a_folder_is_segmented_as_the_predictor_segments_its_images",
        "--output": _PREDICT + "test_a_folder_is_segmented_as_the_predictor_segments_its_images",
        "--model": _PREDICT + "test_a_part_of_the_cases_and_several_models",
        "--best": _BEST,
        "--folds": _REACH,
        "--checkpoint": _REACH,
        "--no-mirroring": _REACH,
        "--step": _REACH,
        "--fast": _PREDICT + "test_fast_is_one_fold_without_mirroring_and_with_larger_steps",
        "--device": _REACH,
        "--devices": "inference/test_devices.py::test_two_processes_write_what_one_writes",
        "--tile-batch": _REACH,
        "--export-order": _REACH,
        "--postprocessing": "export/test_nnunet_use.py::test_its_postprocessing_is_applied_on_request",
        "--classes": _CLASSES + "test_the_chosen_classes_are_those_of_the_whole_prediction",
        "--masks": _CLASSES + "test_masks_are_the_segments_of_the_segmentation",
        "--surfaces": _CLASSES + "test_surfaces_enclose_the_segments",
        "--intensities": _CLASSES + "test_intensities_are_those_of_the_input",
        "--uncertainty": _FOLDER + "test_photographs_and_their_maps",
        "--probabilities": _FOLDER + "test_maps_requested_later_are_written_and_other_records_stay",
        "--dicom-seg": _FOLDER + "test_dicom_series_in_and_dicom_seg_out",
        "--rtstruct": _FOLDER + "test_dicom_series_in_and_rtstruct_out",
        "--fix": _FOLDER + "test_a_sheared_image_is_straightened_when_asked",
        "--threshold": _CALIBRATION + "test_a_threshold_is_followed_and_recorded",
        "--part": _FOLDER + "test_parts_share_a_folder",
        "--skip-unreadable": "inference/test_skip_unreadable.py::test_every_defect_is_named_and_the_others_are_segmented",
        "--report": "report/test_prediction_report.py::test_the_page_lists_and_shows_every_case",
        "--maps": "report/test_prediction_report.py::test_maps_show_the_gates_of_the_first_fold",
        "--overwrite": _FOLDER + "test_segmentations_of_other_settings_that_stay_are_named",
    },
    "evaluate": {
        "--executor": _CLUSTER,
        "--dataset-json": _EVALUATE + "test_maps_next_to_predictions_are_not_scored",
        "--distances": _EVALUATE + "test_distances_of_a_model_are_scored_and_kept",
        "--tolerance": _EVALUATE + "test_distances_of_a_model_are_scored_and_kept",
        "--protocol": "evaluation/test_protocol.py::test_published_metrics_are_added_to_ours",
        "--predicted-only": _EVALUATE + "test_a_missing_prediction_is_named_and_exits_with_1",
        "--foreground-from-instances": _EVALUATE + "test_predictions_are_scored_where_no_dataset_json_is_named",
        "--model": _EVALUATE + "test_cross_validation_of_a_model_folder",
        "--calibrate": _CALIBRATION + "test_the_table_and_the_page",
        "--recall": _CALIBRATION + "test_thresholds_for_a_wanted_recall_or_precision",
        "--precision": _CALIBRATION + "test_thresholds_for_a_wanted_recall_or_precision",
        "--lesions": _CALIBRATION + "test_thresholds_for_a_wanted_recall_or_precision_of_lesions",
        "--device": _CALIBRATION + "test_a_fold_whose_sample_is_missing_or_damaged_is_predicted_again",
        "--compare": _HERE + "test_two_summaries_are_compared",
        "--processes": _EVALUATE + "test_folders",
    },
    "find-best": {
        "--executor": _CLUSTER,
        "--workspace": _BEST,
        "--no-pairs": "cli/test_find_best.py::test_single_models_are_compared_without_predicting",
        "--device": _BEST,
    },
    "report": {
        "--workspace": _REPORT + "test_without_the_raw_data_the_pictures_are_missing",
        "--output": _REPORT + "test_another_file_is_not_replaced_by_the_page",
        "--maps": _VALIDATED + "test_maps_are_those_of_the_fold_that_held_the_case_out",
        "--device": _VALIDATED + "test_maps_are_those_of_the_fold_that_held_the_case_out",
    },
    "attention-report": {
        "--workspace": _ATTENTION + "test_a_training_case_is_shown_with_its_label",
        "--label": _ATTENTION + "test_a_label_on_another_grid_is_refused",
        "--fold": _ATTENTION + "test_a_model_without_modules_is_refused",
        "--checkpoint": _HERE + "test_an_attention_report_of_another_checkpoint",
        "--device": _ATTENTION + "test_a_training_case_is_shown_with_its_label",
        "--output": _ATTENTION + "test_a_training_case_is_shown_with_its_label",
    },
    "cost": dict.fromkeys(("--configurations", "--batch-size", "--precision", "--optimizer"), _COST),
    "export": {
        "--model": _EXPORT + "test_a_zip_and_its_size",
        "--output": _EXPORT + "test_a_zip_and_its_size",
        "--onnx": _EXPORT + "test_onnx_files_of_every_fold_with_its_own_attention",
        "--folds": _EXPORT + "test_folds_are_chosen_by_name_and_range_and_printed",
        "--checkpoint": _EXPORT + "test_the_chosen_checkpoint_becomes_the_final_one",
        "--overwrite": _EXPORT + "test_an_earlier_export_is_replaced_only_when_asked_to",
    },
    "import": {
        "--workspace": _IMPORT + "test_a_zip_becomes_a_model_folder_of_the_workspace",
        "--preset": _IMPORT + "test_the_options_reach_the_import_of_a_checkpoint",
        "--plans": _IMPORT + "test_the_options_reach_the_import_of_a_checkpoint",
        "--dataset": _IMPORT + "test_with_a_raw_dataset_it_is_planned",
        "--configuration": _IMPORT + "test_the_options_reach_the_import_of_a_checkpoint",
        "--largest-gb": _IMPORT + "test_a_zip_becomes_a_model_folder_of_the_workspace",
        "--overwrite": _IMPORT + "test_a_zip_becomes_a_model_folder_of_the_workspace",
        "--name": _IMPORT + "test_models_of_nnunet_become_model_folders_by_their_content",
    },
    "demo": dict.fromkeys(("--folder", "--epochs", "--iterations", "--seed", "--device"), _DEMO),
    "serve": {
        "--host": _SERVE + "test_other_machines_with_a_token",
        "--port": _SERVE + "test_what_it_does_not_start_with",
        "--token-file": _SERVE + "test_other_machines_with_a_token",
        "--queue": _SERVE + "test_it_answers_until_it_is_ended_and_leaves_nothing",
        "--largest-mb": _SERVE + "test_a_larger_image_than_its_limit",
        "--folds": _SERVE + "test_it_answers_until_it_is_ended_and_leaves_nothing",
        "--no-mirroring": _SERVE + "test_it_answers_until_it_is_ended_and_leaves_nothing",
        "--device": _SERVE + "test_what_it_does_not_start_with",
    },
    "completion": {},
    "doctor": {"--workspace": "cli/test_doctor.py::test_a_workspace_that_cannot_be_written"},
}


def options(parser: Parser) -> dict[str, str]:
    """By long flag: the name of its value in Python."""
    return {a.option_strings[-1]: a.dest for a in parser._actions if a.option_strings and a.dest != "help"}


def test_every_command_is_walked():
    known = {name for name in PARSERS if not name.startswith("convert ")} | {"convert"}
    assert known == set(commands())


@pytest.mark.parametrize("command", PARSERS)
def test_every_option_has_an_entry(command):
    assert options(PARSERS[command]()).keys() == EVERY_COMMAND.keys() | SHOWN[command].keys()


@pytest.mark.parametrize("command", PARSERS)
def test_every_entry_names_a_test_that_uses_the_option(command):
    wrong = []
    for flag, name in options(PARSERS[command]()).items():
        place = EVERY_COMMAND.get(flag) or SHOWN[command][flag]
        file, _, function = place.partition("::")
        source = functions(file).get(function, "")
        spellings = (name, name.removeprefix("no_"), *short(PARSERS[command](), flag))
        if not any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", source) for word in spellings):
            wrong.append(f"{flag}: {place} " + ("does not use it" if source else "does not exist"))
    assert wrong == []


def short(parser: Parser, flag: str) -> list[str]:
    return next(list(a.option_strings) for a in parser._actions if flag in a.option_strings)


@functools.cache
def functions(file: str) -> dict[str, str]:
    """By name: the source of the test functions of a file, with their decorators."""
    text = (TESTS / file).read_text()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder, entered, with a raw dataset, a planned one, two models, images and the like."""
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "raw" / "Blocks")
    workspace_of_balls(tmp_path / "planned")
    give_own_attention(make_model(tmp_path, folds=2), 0, {"gate@0": 1.0})
    write_images(tmp_path / "images", 1)
    (tmp_path / "released.model").touch()
    (tmp_path / "dataset.zip").touch()
    return tmp_path


PLAN = "plan-and-preprocess Blocks --workspace ."
IMAGE = "images/case_0_0000.nii.gz"
INSTANCES = "--channel MRI --label a=1 b=2 --foreground-from-instances --workspace ."
REFUSED = {  # the command, and what its one sentence says; more of evaluate's are in cli/test_evaluate.py
    f"convert folder images --images . --labels . {INSTANCES}": "--foreground-from-instances makes one class",
    f"{PLAN} --preset acdc --patch 16 160 160": "--preset takes patch and network as published, so --patch has no effect",
    f"{PLAN} --preset acdc --width 0.5": "so --width has no effect; leave one of the two out",
    f"{PLAN} --preset acdc --planner unet": "--preset is for UNETR++, not for --planner unet",
    f"{PLAN} --attention focal --plan-only": "it cannot go with --plan-only",
    f"{PLAN} --loss unified_focal --plan-only": "--loss unified_focal: preprocessed labels decide this, so it cannot go",
    f"{PLAN} -c 2d --patch 8 16 16": "--patch has 3 axes, but the configuration has 2",
    f"{PLAN} --preset resenc-l --gpu-memory-gb 12": "--preset resenc-l plans for 24 GB as nnU-Net does, so --gpu-memory-gb has",
    f"{PLAN} --preset resenc-m --patch 16 16 16": "takes patch and network by nnU-Net's rule, so --patch has no effect",
    f"{PLAN} --preset resenc-xl --width 2": "takes patch and network by nnU-Net's rule, so --width has no effect",
    f"{PLAN} --preset resenc-m --planner unet": "is a U-Net with a residual encoder, not for --planner unet",
    f"{PLAN} --preset resenc-m --place epa@1=on": "epa@1",
    "cost resenc-m": "resenc-m has no network until it is planned for a dataset",
    f"{PLAN} -c 2d --preset acdc": "the presets of UNETR++ are 3D networks",
    f"{PLAN} --planner unet --place epa@1=on": "epa@1",
    "train balls 3d_fullres all -p unet --workspace planned --patience 3": "--patience looks at validation cases",
    "train balls 3d_fullres 0 all -p unet --workspace planned --patience 3": "the fold all has none",
    "train balls 3d_fullres all -p unet --workspace planned --no-mirroring": "--no-mirroring is for the validation of a fold",
    "find-best balls --workspace planned --no-pairs --device cpu": "so it has no effect with --no-pairs",
    "train balls 3d_fullres 0 -p unet --workspace planned --continue --epochs 3": "--continue has nothing to extend",
    "train balls 3d_fullres 0 -p unet --workspace planned --learn-attention --epochs 1": "give --epochs 2 or more",
    f"predict -i {IMAGE} -o out -m unetrpp__3d_fullres --dicom-seg": "DICOM",
    f"predict -i {IMAGE} -o out -m unetrpp__3d_fullres --rtstruct": "--rtstruct is for DICOM series, but case_0 came as other files",
    f"predict -i {IMAGE} -o out -m unetrpp__3d_fullres --executor dask=local:2 --devices cpu,cpu": "leave one of them out",
    f"predict -i {IMAGE} -o out -m unetrpp__3d_fullres --fast --step 0.25": "--fast takes the first fold and a step of 0.75",
    f"predict -i {IMAGE} -o out -m unetrpp__3d_fullres --fast --folds 0": "leave --folds and --step out",
    "evaluate a b --executor dask=local:2 --processes 2": "--processes is for processes of this machine",
    "evaluate --compare a b --executor dask=local:2": "--executor has no effect with --compare; leave it out",
    f"{PLAN} --executor slurm=4": "--executor slurm=4 is neither dask=tcp://HOST:PORT nor dask=local:WORKERS",
    f"attention-report unetrpp__3d_fullres {IMAGE} --workspace planned": "one given by its files; leave it out",
    f"predict -i {IMAGE} -o out -m unetrpp__3d_fullres --maps": "--maps are shown by the page of --report; add it",
    "report unetrpp__3d_fullres --device cpu": "--device is where --maps predicts, so it has no effect without it",
    "cost synapse -c 3d_fullres": "--configurations are those of a plans file; synapse is one network",
    "import released.model --preset acdc --dataset Blocks --largest-gb 3": "--largest-gb is for a zip",
    "import released.model --preset acdc --dataset Blocks --name Mine": "--name is not for a released checkpoint",
    "import dataset.zip --plans plans.json": "add --preset",
    "import dataset.zip --configuration 2d": "add --preset",
    "evaluate --model unetrpp__3d_fullres --tolerance 2": "add --distances, or leave --tolerance out",
    "evaluate --model unetrpp__3d_fullres --predicted-only": "--predicted-only has no effect with --model; leave it out",
    "evaluate --model unetrpp__3d_fullres --device cpu": "--device is where --calibrate and --lesions predict; leave it out without them",
    "evaluate a b --calibrate": "--calibrate has no effect with PREDICTIONS and REFERENCES; leave it out",
    "evaluate --compare a b --distances --protocol acdc": "--distances and --protocol have no effect with --compare",
}


@pytest.mark.parametrize("command", REFUSED)
def test_an_option_without_effect_is_refused_in_one_sentence(command, place, capsys):
    before = sorted(place.rglob("*"))
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert REFUSED[command] in error
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert [path for path in sorted(place.rglob("*")) if path not in before] == []


def test_processes_beside_an_executor_are_refused(place):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as executor, pytest.raises(UserError, match="leave one of them out"):
        plan("Blocks", workspace=place, executor=executor, processes=2)


def test_the_demo_passes_its_options_on(monkeypatch, tmp_path):
    """--folder, --epochs, --iterations, --seed and --device."""
    called: list[list[str]] = []
    seeds: list[int] = []

    def call(command):
        called.append(command)
        return 3 if command[0] == "predict" else 0

    monkeypatch.setattr(demo, "call", call)
    monkeypatch.setattr("unetrpp.dataset.synthetic.write_synthetic_dataset", lambda folder, seed: seeds.append(seed))
    given = ["--epochs=7", "--iterations=9", "--seed=11", "--device=cpu"]
    assert demo.main([f"--folder={tmp_path / 'here'}", *given]) == 3
    training, prediction = called[1:3]
    assert [option for option in given if option in training] == given
    assert "--device=cpu" in prediction
    assert seeds == [11]
    assert all(str(tmp_path / "here") in " ".join(command) for command in called)


def test_an_attention_report_of_another_checkpoint(place, capsys):
    fold = place / "unetrpp__3d_fullres" / "fold_0"
    arguments = ["attention-report", str(fold.parent), IMAGE, "--device", "cpu", "--checkpoint"]
    assert main([*arguments, "best"]) == 2
    assert "best" in capsys.readouterr().err
    (fold / "checkpoint_final.pt").rename(fold / "checkpoint_best.pt")
    assert main([*arguments, "best"]) == 0


def test_two_summaries_are_compared(tmp_path, capsys):
    """--compare of a model with a better one."""
    from tests.evaluation.test_summary import case, scheme
    from unetrpp.evaluation.summary import summarize, write_summary

    for name, dice in (("one", 0.5), ("other", 0.75)):
        scores = [case(f"case_{i}", [dice], [1.0]) for i in range(3)]
        write_summary(tmp_path / name, summarize(scores, scheme(1)))
    assert main(["evaluate", "--compare", *(str(tmp_path / name / "summary.json") for name in ("one", "other"))]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("class 1"))
    assert row.split()[2:6] == ["3", "0.500", "0.750", "+0.250"]
