"""Kinds of real data that once went wrong, and causes found by deliberate abuse: the rule or fix, and its tests.

`tests/faults.py` writes both tables into `docs/faults.md`; `tests/test_faults.py` checks that each test exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Ruled:
    """One row of a table.

    Attributes:
        name: The kind or the cause.
        rule: The rule that holds for all of it, or how the cause was removed; or why it was not.
        tests: As ``FILE::NAME``, below ``tests/`` and without ``test_``; none for what is left as it is.
    """

    name: str
    rule: str
    tests: tuple[str, ...]

    def row(self) -> str:
        """The row in Markdown."""
        shown = ", ".join(f"`{one}`" for one in self.named_tests()) or "–"
        return f"| {self.name} | {self.rule} | {shown} |\n"

    def named_tests(self) -> list[str]:
        """Its tests, as ``FILE::NAME`` below ``tests/``."""
        return [_full(one) for one in self.tests]


def _full(short: str) -> str:
    folder_and_file, name = short.split("::")
    folder, _, file = folder_and_file.rpartition("/")
    return f"{folder}/test_{file}.py::test_{name}".removeprefix("/")


def kinds_lines() -> Iterator[str]:
    """The two tables, as lines of the page."""
    yield _KINDS_HEAD
    yield from (kind.row() for kind in KINDS)
    yield _CAUSES_HEAD
    yield from (cause.row() for cause in CAUSES)


_KINDS_HEAD = """
## Kinds of real data

Data as people have them, kind by kind: the one rule for all of a kind, and the tests below `tests/` that hold it.

| Kind | Rule | Tests |
|---|---|---|
"""

_CAUSES_HEAD = """
## Causes found by deliberate abuse

Each cause of a traceback, a wrong result, a file lost or a hang that deliberate abuse of all commands found, how it was
removed, and the tests that hold it. Where nothing was changed, the reason is given instead of the fix.

| Cause | Fix | Tests |
|---|---|---|
"""

KINDS: tuple[Ruled, ...] = (
    Ruled(
        "Images lie below a linked folder",
        "Links are followed once; a loop, a second way to a file and a broken link are named",
        (
            "data/image_folders::linked_folders_are_followed_once",
            "data/image_folders::loops_and_broken_links_are_named",
        ),
    ),
    Ruled(
        "A folder may not be read",
        "An error that names it, in every layout",
        (
            "data/image_folders::an_unreadable_folder_is_an_error",
            "data/image_folders::an_error_while_listing_names_the_folder",
        ),
    ),
    Ruled(
        "Copies lie in hidden folders",
        "Hidden folders and files are no data, and are counted",
        ("data/image_folders::hidden_folders_are_no_data",),
    ),
    Ruled(
        "Images lie in the data and are not read",
        ("Every reader returns what it passed over and why; `check`, `train`, `evaluate` and `embed` print the counts"),
        (
            "data/image_folders::sysu_returns_what_it_passed_over",
            "data/image_folders::regdb_returns_what_it_passed_over",
            "data/image_folders::llcm_returns_what_it_passed_over",
            "data/image_folders::csv_returns_what_it_passed_over",
            "data/image_folders::own_folders_return_what_they_passed_over",
            "data/check::what_was_passed_over_is_printed_in_one_line_and_in_the_json",
        ),
    ),
    Ruled(
        "Identity lists with one identity a line",
        "Every line counts; what is not understood is an error with its line",
        ("data/sysu::every_line_of_a_list_counts", "data/lists::lines_that_are_not_understood"),
    ),
    Ruled(
        "Lists written by another system",
        (
            "Backslashes, absolute paths below the root, other encodings and accents in another form are read, or"
            " named with the likely cause"
        ),
        (
            "data/lists::paths_as_other_systems_write_them",
            "data/lists::absolute_paths_through_a_link_to_the_root",
            "data/lists::other_encodings_are_named",
            "data/lists::accents_in_another_form",
            "data/folder::csv_paths_as_other_systems_write_them",
            "data/folder::a_csv_in_another_encoding",
        ),
    ),
    Ruled(
        "Identities such as 5.0, from pandas",
        "A whole number with .0 is that number; two spellings of one number are refused",
        ("data/names::whole_numbers_are_their_own_numbers", "data/names::faults"),
    ),
    Ruled(
        "Identities of twenty digits, and names",
        (
            "In your own images any text is an identity or a camera; the lists of the benchmarks take whole "
            "numbers of up to 18 digits; nothing is merged"
        ),
        (
            "data/names::long_numbers_are_names",
            "data/names::no_two_names_become_one",
            "cli/weights::names_and_long_numbers_come_out_as_they_went_in",
        ),
    ),
    Ruled(
        "The test images are those of another trial",
        "`evaluate` compares them with the run's own record of its training images",
        (
            "workflows/evaluate::another_trial_tests_on_training_images",
            "workflows/combine::test_images_that_were_trained_on_are_added_up",
        ),
    ),
    Ruled(
        "One trial counts twice in an average",
        "`combine` takes each training once",
        ("workflows/combine::each_run_counts_once", "workflows/combine::a_training_counts_once"),
    ),
    Ruled(
        "People are in both splits",
        "`check` names them as a problem, `evaluate` in its results",
        ("data/check::people_in_training_and_test_are_named", "workflows/evaluate::people_of_both_splits_are_named"),
    ),
    Ruled(
        "A training image is in the test, saved again",
        "Images are compared by a hash of their shrunk pixels, not only by their bytes",
        (
            "data/check::training_images_saved_again_in_the_gallery",
            "workflows/evaluate::near_copies_of_training_images_are_found",
            "data/near_copies::nearly_every_picture_saved_again_is_near_and_no_other_is",
        ),
    ),
    Ruled(
        "A gallery holds strangers, or junk",
        "Query, gallery, unknown and junk are roles in every layout",
        (
            "data/folder::roles",
            "evaluation/protocols::strangers_are_searched",
            "evaluation/protocols::junk_is_in_no_search_and_strangers_ask_nothing",
        ),
    ),
    Ruled(
        "A search has no gallery",
        "It is left out with a word, the others are measured",
        (
            "evaluation/protocols::sysu__a_mode_without_gallery_is_left_out",
            "workflows/evaluate::searches_without_gallery_or_right_answer_are_left_out",
        ),
    ),
    Ruled(
        "Infrared of 10 to 16 bits, and thermal counts",
        ("The range that a modality uses becomes 0 to 255, and is kept with the model; `check` says what is used"),
        (
            "data/values::sensors_of_few_bits_fill_the_range",
            "data/values::raw_thermal_counts_with_a_dead_pixel",
            "data/values::floating_point_temperatures",
            "engine/stretch::the_range_travels_with_the_model",
        ),
    ),
    Ruled(
        "Dark, constant, tiny or swapped images",
        "`check` says so for the whole modality",
        (
            "data/values::a_dark_modality_of_eight_bits_is_said",
            "data/values::constant_tiny_and_grey_images_are_said",
            "data/values::swapped_folders_are_a_problem",
        ),
    ),
    Ruled(
        "Photos that were taken on their side",
        (
            "The EXIF orientation is followed for your own images, and ignored in the benchmarks, as the released"
            " code does"
        ),
        ("data/images::orientation_is_followed_as_pillow_does", "data/folder::own_images_are_read_upright"),
    ),
    Ruled(
        "A phone's photo folders",
        (
            "Subfolders, all formats and sizes are read, by content; films, sidecars, thumbnails and doubles are "
            "counted; HEIC names its plugin"
        ),
        (
            "own_photos::photos_of_a_phone_from_the_check_to_the_report",
            "data/phone_folder::a_folder_from_a_phone",
            "data/phone_folder::heic_is_refused_in_one_line",
        ),
    ),
    Ruled(
        "Frames of a video that hardly differ",
        "The neighbours are looked at before clustering; near-copies are said, and thinned if asked",
        (
            "clustering/neighbourhoods::frames_of_a_video_give_tracks_and_thinned_they_give_people",
            "clustering/neighbourhoods::measures_on_the_thinned_rows_do_not_praise_tracks",
            "cli/cluster::what_speaks_against_the_clusters_is_printed",
        ),
    ),
    Ruled(
        "k1 takes in all samples",
        "A warning gives k1 and the number of samples; `auto` follows the data",
        ("clustering/neighbourhoods::warnings", "clustering/options::sizes_that_follow_the_number_of_images"),
    ),
    Ruled(
        "A graph without its diagonal",
        "A sample counts itself all the same, as in scikit-learn",
        (
            "clustering/density::samples_count_themselves_without_a_stored_diagonal",
            "clustering/density::dbscan_of_two_triples_and_a_single_one",
        ),
    ),
    Ruled(
        "Crops that failed",
        "Rows without direction are noise, and neighbours of no other row",
        ("clustering/neighbourhoods::failed_crops_are_noise_and_neighbours_of_no_row",),
    ),
    Ruled(
        "File names that are not UTF-8",
        "They are written escaped, everywhere",
        (
            "data/image_folders::names_that_are_not_utf8_can_be_printed",
            "files::names_that_are_not_utf8_are_written_escaped",
        ),
    ),
    Ruled(
        "Checkpoints that hold more than weights",
        "Everything but tensors is dropped unread, whatever its class; a part of an unpacked file is named",
        (
            "models/foreign::whatever_is_no_tensor_is_dropped",
            "models/foreign::numbers_of_numpy_are_passed_over",
            "models/foreign::a_part_of_an_unpacked_checkpoint",
        ),
    ),
)

CAUSES: tuple[Ruled, ...] = (
    Ruled(
        "A1. Two trainings with one `--out`",
        "A lock on the folder while it is written; the second is refused by name",
        ("cli/one_owner::the_second_of_two_trainings", "files::of_processes_that_make_one_folder_one_does"),
    ),
    Ruled(
        "A2. A folder that may not be entered is passed over",
        "An error that names it",
        ("data/image_folders::an_unreadable_folder_is_an_error",),
    ),
    Ruled(
        "A3. `upper-bound` ignored settings",
        "The verb is gone: recipe=supervised runs the usual training",
        ("cli/verbs::upper_bound_points_to_the_recipe", "engine/trainer::every_setting_reaches_the_weights"),
    ),
    Ruled(
        "A4. NaN weights are saved as a success",
        "Losses and weights are looked at before anything is saved, imported or exported",
        (
            "supervised/starter::a_loss_that_is_not_finite_is_never_saved",
            "workflows/exchange::weights_that_are_not_finite_are_not_exported",
            "engine/restart::broken_weights_are_not_saved",
        ),
    ),
    Ruled(
        "A5. `--resume` with other settings or another run's checkpoint",
        (
            "A checkpoint has its settings; what makes another run is refused, the rest is recorded, labels are "
            "those that were used"
        ),
        (
            "engine/resuming::what_makes_another_run_is_refused",
            "engine/resuming::labels_are_those_that_were_used_whatever_the_settings_say",
            "engine/resuming::weights_that_are_not_finite_are_not_taken_up",
        ),
    ),
    Ruled(
        "A6. A list with one value too many shifts all rows",
        "Heading and number of values are checked",
        ("features/read::a_list_of_one_value_too_many_is_not_shifted",),
    ),
    Ruled("A7. Two `--resume` of one run", "The lock of A1", ("cli/one_owner::two_that_resume_one_run",)),
    Ruled(
        "A8. Outputs that appear meanwhile are overwritten",
        "An output is claimed when the work begins, and made only if it is not there",
        (
            "cli/one_owner::a_file_that_appears_while_a_command_works",
            "files::a_file_that_appears_meanwhile",
            "files::a_file_that_came_before_the_claim",
            "cli/verbs::starter_into_a_missing_folder",
        ),
    ),
    Ruled(
        "A9. `synth` into a damaged set says all is well",
        "The checksum is computed again from the files",
        ("synthetic/write::a_set_that_was_changed_is_reported",),
    ),
    Ruled(
        "A10. `combine` of what does not belong together, and trainings without epochs",
        (
            "Data, schedule, method and labels are compared; a schedule without an epoch is refused; a log that "
            "lacks epochs is named"
        ),
        (
            "workflows/combine::runs_that_do_not_belong_together",
            "workflows/combine::each_run_counts_once",
            "config::a_training_without_epochs_is_refused",
            "runs/metrics_log::a_damaged_line_is_named_and_nothing_is_lost",
        ),
    ),
    Ruled(
        "B1. `report` opens any format",
        "Only the formats of the data readers, and regular files",
        ("report/images::formats_of_no_data_set_are_never_opened", "report/images::what_is_no_file_is_not_waited_for"),
    ),
    Ruled(
        "B2. `report` shows any image of the disk",
        "Only files below the data's folder, links followed",
        ("report/images::images_outside_of_the_data_are_not_shown",),
    ),
    Ruled(
        "B3. Temporary names can be foreseen, links are followed",
        "Random names, made exclusively",
        (
            "files::a_planted_link_is_not_followed",
            "files::processes_of_equal_number_do_not_share_a_name",
            "files::a_planted_lock_that_is_a_link",
        ),
    ),
    Ruled(
        "B4. Permissions are widened",
        "A file or folder that is replaced keeps its mode",
        (
            "files::a_file_keeps_its_permissions",
            "files::a_folder_keeps_its_permissions",
            "cli/one_owner::results_and_report_keep_their_permissions",
        ),
    ),
    Ruled(
        "B5. Parts that share each other stop a reader for ever",
        "Entries are counted, those without a tensor included; aliases count as often as they are named",
        (
            "models/foreign::entries_that_share_each_other",
            "models/foreign::a_name_without_end",
            "parsing::yaml_beyond_the_bounds",
        ),
    ),
    Ruled(
        "B6. Escape sequences and formulas of others",
        ("All output passes through one function that escapes them; CSV text that begins a formula gets an apostrophe"),
        (
            "cli/last_resort::control_characters_of_names_do_not_reach_the_terminal",
            "runs/records::words_of_results_command_no_terminal",
            "features/labels::text_that_a_spreadsheet_would_run",
        ),
    ),
    Ruled(
        "B7. numba's cache is unpickled",
        (
            "Left: it lies in the package or the user's own cache folder; a shared NUMBA_CACHE_DIR is as trusted "
            "as the code beside it"
        ),
        (),
    ),
    Ruled(
        "C1. `~nosuchuser` in a path",
        "One function expands paths, and names the user",
        ("files::homes_that_do_not_exist",),
    ),
    Ruled(
        "C2. Parquet columns of other types",
        "Columns of every type pass through",
        ("features/read::columns_of_every_type_pass_through",),
    ),
    Ruled("C3. A damaged numba cache", "It is made again", ("clustering/compile::a_damaged_cache_is_made_again",)),
    Ruled(
        "C4. Damaged .npy headers",
        "The header is checked before numpy parses it",
        ("features/read::headers_that_describe_no_array", "data/image_cache::a_damaged_file_is_made_again"),
    ),
    Ruled(
        "C5. Identities and cameras of 2^63 and more",
        "Names where they are your own, one line with the row elsewhere",
        (
            "data/names::long_numbers_are_names",
            "data/lists::long_entries_are_cut_in_messages",
            "supervised/labeller::people_may_have_any_whole_numbers",
        ),
    ),
    Ruled(
        "C6. File names that are not UTF-8",
        "Written escaped",
        ("files::names_that_are_not_utf8_are_written_escaped", "cli/last_resort::an_encoding_that_lacks_characters"),
    ),
    Ruled(
        "C7. stdout that cannot be written",
        "One line and exit code 2, or 141 for a closed pipe; characters that an encoding lacks are escaped",
        (
            "cli/last_resort::output_to_a_full_disk",
            "cli/last_resort::a_reader_that_goes_away",
            "cli/last_resort::an_encoding_that_lacks_characters",
        ),
    ),
    Ruled(
        "C8. Clustering options and devices out of range",
        "Ranges stand with the options; only devices that can compute here are tried",
        ("clustering/options::what_a_user_gave_is_refused_by_name", "devices::a_device_that_cannot_compute_is_refused"),
    ),
    Ruled(
        "C9. `starter` with numbers out of range",
        "Each number and their product have a range",
        ("supervised/starter::numbers_out_of_range", "supervised/starter::more_images_than_fit_are_refused"),
    ),
    Ruled(
        "C10. Absurd sizes",
        "Each setting has an upper limit; numbers beyond 31 bits are refused",
        ("config::numbers_that_are_none_or_beyond_use",),
    ),
    Ruled(
        "C11. Nesting, digits and surrogates without end",
        "All JSON and YAML passes one reader with bounds",
        (
            "parsing::json_beyond_the_bounds",
            "parsing::yaml_beyond_the_bounds",
            "runs/metrics_log::a_damaged_line_is_named_and_nothing_is_lost",
        ),
    ),
    Ruled(
        "C12. Numbers in a log that no training writes",
        "Records have bounds when they are read",
        ("runs/records::numbers_that_no_training_writes_are_refused", "runs/records::a_wrong_line_is_named"),
    ),
    Ruled(
        "C13. Checkpoints of another architecture, or forged",
        "Settings are compared, facts are validated, what does not fit is refused",
        (
            "engine/resuming::a_checkpoint_of_something_else",
            "engine/resuming::facts_of_another_form",
            "engine/resuming::what_makes_another_run_is_refused",
        ),
    ),
    Ruled(
        "C14. Models that collapsed, or are larger than their file",
        "Embeddings without a direction are refused; a network is built only if the file can hold it",
        (
            "models/embed::embeddings_without_a_direction_are_refused",
            "models/weights::networks_larger_than_the_file_are_not_built",
        ),
    ),
    Ruled(
        "C15. Tensors that are not what they seem",
        "The shape is looked at before the values; names are escaped",
        ("models/released::tensors_that_are_not_what_they_seem", "models/foreign::names_that_nothing_can_write"),
    ),
    Ruled(
        "C16. Results without optional measures",
        "They are left out of the mean",
        ("evaluation/evaluate::what_older_results_lack_is_left_out_of_the_mean",),
    ),
    Ruled(
        "C17. Senseless environment variables, a deleted folder, little memory",
        (
            "They are looked at before the libraries are loaded that read them; all that says “no memory” is "
            "known in one place"
        ),
        (
            "cli/environment::a_senseless_variable",
            "cli/environment::a_folder_that_was_deleted",
            "cli/last_resort::memory_that_runs_out_anywhere",
            "distributed/processes::half_an_environment",
        ),
    ),
    Ruled(
        "C18. Ctrl-C while libraries are loaded",
        "Exit code 130 without a word, from the first import on; before that Python itself answers",
        (
            "cli/environment::ctrl_c_while_libraries_are_loaded",
            "cli/last_resort::ctrl_c_anywhere",
            "cli/ending::every_verb_is_ended_while_it_writes",
        ),
    ),
    Ruled(
        "D1. The command line library's own errors take several lines",
        "One line",
        ("cli/conventions::a_mistake_takes_one_line",),
    ),
    Ruled(
        "D2. Pillow's warnings",
        "Silenced where images are opened: our own limit on pixels is stricter",
        ("data/images::damaged_notes_do_no_harm", "data/images::too_many_pixels_are_refused_before_decoding"),
    ),
    Ruled(
        "D3. matplotlib's lines without a cache folder",
        "Its log has a handler that drops them",
        ("cli/environment::a_home_without_place_for_a_cache",),
    ),
    Ruled(
        "D4. `COLUMNS=0` prints nothing", "A width of 0 counts as none", ("cli/environment::a_terminal_without_width",)
    ),
    Ruled(
        "D5. Closed pipes and a full stderr",
        "141, as usual tools; the exit code stays 2 where the line cannot be written",
        ("cli/last_resort::a_reader_that_goes_away", "cli/last_resort::complaints_to_a_full_disk"),
    ),
    Ruled(
        "E1. Processes of a killed `synth` live on",
        "Each worker watches its parent and ends with it; what a killed process left is removed by the next",
        (
            "synthetic/workers::workers_end_with_their_parent",
            "files::what_a_killed_process_left_of_an_output_goes_and_nothing_else",
            "cli/ending::nothing_is_half_written",
        ),
    ),
    Ruled(
        "E2. A training that ends before its first epoch blocks its folder",
        "A folder is made whole or not at all; the mark of a killed process is replaced",
        (
            "files::a_folder_is_made_whole_or_not_at_all",
            "files::a_folder_that_a_killed_process_left_unfinished_is_replaced",
        ),
    ),
    Ruled(
        "E3. `umask 777`",
        (
            "Left where it succeeds: the user asked for files that no one may read. Where nothing can be made, "
            "nothing is left"
        ),
        ("files::where_nothing_can_be_made_nothing_is_left",),
    ),
    Ruled(
        "F1. Memory of large 16-bit images",
        "Read in strips",
        ("data/images::memory_of_a_large_wide_image_is_bounded", "data/images::wide_grey_in_strips_is_that_in_one"),
    ),
    Ruled(
        "F2. All batches of an epoch are drawn before its first step",
        "Drawn when they are needed; absurd sizes are refused by an estimate of memory before anything is written",
        (
            "data/samplers::what_holds_for_every_epoch",
            "engine/memory_needed::absurd_sizes_are_refused_before_anything_is_written",
        ),
    ),
    Ruled(
        "G1. Infinite settings, and what YAML 1.1 takes for other numbers",
        "Refused; numbers are decimal",
        ("config::numbers_that_are_none_or_beyond_use", "config::what_yaml_takes_for_something_else_is_refused"),
    ),
    Ruled("G2. An empty path is the current folder", "Refused", ("config::an_empty_path_is_not_the_current_folder",)),
    Ruled(
        "G3. A preset named `../../x`",
        "The name of a preset is one short word",
        ("config::a_preset_cannot_lead_the_default_run_folder_elsewhere",),
    ),
    Ruled(
        "G4. Named pipes and devices as images, lists or settings",
        "Only regular files are opened",
        (
            "data/images::pipes_and_devices_are_refused_without_waiting",
            "data/lists::a_pipe_is_no_list",
            "parsing::what_is_no_text_file",
        ),
    ),
    Ruled(
        "G5. A full disk behind a .npy file",
        "Written without numpy's own file access, so that the reason is the system's",
        ("features/labels::a_full_disk_is_named",),
    ),
    Ruled(
        "G6. The published checksum of the ImageNet weights has 32 bits",
        "Left: the publisher gives no longer one. It guards against damage; the transfer is encrypted",
        ("models/imagenet::download_with_a_wrong_checksum_leaves_nothing",),
    ),
)
