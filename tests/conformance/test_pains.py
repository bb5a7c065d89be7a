"""What users of GRUs have asked for in vain, and the tests that hold it: no promise without one."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

PAINS = {
    "torch.compile refuses a GRU, or compiles it anew for every length": [
        "nn/test_compile.py::test_one_graph_serves_every_size",
        "nn/test_compile.py::test_time_that_changes_costs_one_compilation_more",
        "nn/test_compile.py::test_training_through_inductor_is_training",
        "nn/test_op.py::test_the_operators_pass_torchs_own_check",
    ],
    "exported programs freeze the number of steps": [
        "nn/test_compile.py::test_an_exported_program_serves_every_size",
        "nn/test_onnx.py::test_one_graph_serves_every_size",
    ],
    "ONNX files compute another GRU": [
        "nn/test_onnx.py::test_one_graph_serves_every_size",
        "nn/test_onnx.py::test_torchs_own_shape_of_call",
        "test_weights.py::test_the_librarys_own_formula_computes_the_same",
    ],
    "variable lengths are slow, must be sorted, may not be zero": [
        "nn/test_call.py::test_every_form_of_a_call_is_the_same_call",
        "nn/test_call.py::test_what_lies_past_a_row_is_neither_read_nor_written",
        "nn/test_gru.py::test_a_packed_sequence_comes_back_as_torchs",
        "nn/test_work.py::test_the_operators_of_a_step_are_as_many_for_any_time",
        "nn/test_work.py::test_what_lies_past_a_length_is_not_kept",
    ],
    "recurrent dropout, zoneout and layer normalisation are missing": [
        "nn/test_options.py::test_recurrent_dropout_is_one_mask_where_the_state_meets_its_weights",
        "nn/test_options.py::test_zoneout_keeps_units_at_random_and_their_share_when_not_training",
        "nn/test_options.py::test_weight_dropout_drops_recurrent_weights_for_a_call",
        "nn/test_options.py::test_layer_norm_is_the_papers",
        "nn/test_compositions.py::test_any_composition_is_its_equations",
    ],
    "vmap, ensembles and per-sample gradients raise errors": [
        "nn/test_derivatives.py::test_a_map_over_inputs_is_a_loop",
        "nn/test_derivatives.py::test_an_ensemble_is_a_loop_over_its_members",
        "nn/test_derivatives.py::test_gradients_of_each_sample",
    ],
    "second derivatives are missing": [
        "nn/test_derivatives.py::test_second_derivatives_and_forward_mode",
        "nn/test_derivatives.py::test_the_hessian_is_symmetric_and_torchs",
        "nn/test_derivatives.py::test_meta_learning_steps_through_an_inner_update",
    ],
    "a processor is slow at it, and more threads make it slower": [
        "nn/test_work.py::test_an_accelerated_model_calls_a_fraction_of_torchs_operators",
        "test_kernels.py::test_fewer_threads_than_asked_for_do_the_same_work",
    ],
    "an episode cannot begin inside a sequence": [
        "nn/test_call.py::test_zero_keep_restarts_an_episode_to_the_bit",
    ],
    "there is no way to a small machine without a framework": [
        "runtime/test_model.py::test_a_model_runs_where_there_is_no_torch",
    ],
    "a stream has to carry its state by hand, and zero steps raise an error": [
        "runtime/test_stream.py::test_a_stream_gives_what_the_sequence_gives",
        "runtime/test_stream.py::test_the_state_goes_on_elsewhere",
        "nn/test_gru.py::test_an_empty_sequence_returns_its_state",
    ],
    "weights of other libraries do not fit, or fit and are wrong": [
        "test_weights.py::test_a_round_trip_keeps_the_function_and_the_librarys_numbers",
        "test_weights.py::test_what_the_target_cannot_hold_is_refused",
    ],
    "int8 works in one old mode only": [
        "nn/test_gru.py::test_dynamic_quantization_leaves_it_whole",
        "test_kernels.py::test_narrow_weights_are_the_same_weights_rounded",
        "runtime/test_stream.py::test_narrow_weights_give_what_they_stand_for",
    ],
    "Apple's GPU gives NaN": [],  # no such machine: torch's own GRU runs there, untouched
    "gates and the states of all layers are hidden": [
        "nn/test_call.py::test_gates_change_nothing_and_have_gradients",
        "nn/test_call.py::test_it_computes_the_equations",
    ],
    "other activations": [],  # not offered: the kernels and every exchange format have these two
    "h_n is not the state that its reader is after": [
        "nn/test_call.py::test_last_is_the_top_state_at_each_rows_own_end",
        "nn/test_call.py::test_results_unpack_and_have_names",
    ],
    "flatten_parameters warns": [
        "nn/test_gru.py::test_copies_are_of_their_own",
        "nn/test_gru.py::test_no_write_to_the_parameters_is_missed",
    ],
    "a row's result depends on its company": [
        "nn/test_call.py::test_a_rows_bits_do_not_depend_on_its_company",
        "nn/test_call.py::test_chunks_with_the_state_carried_are_the_whole_to_the_bit",
    ],
    "an initial state cannot be learnt, nor a long sequence cut": [
        "nn/test_options.py::test_a_learnt_state_is_used_where_none_is_given",
        "nn/test_tbptt.py::test_chunks_are_the_whole",
        "nn/test_tbptt.py::test_gradients_end_at_the_beginning_of_a_chunk",
        "nn/test_options.py::test_recomputing_keeps_the_states_alone",
    ],
    "half precision does not train on a processor": [
        "nn/test_gru.py::test_half_precision_is_float32_rounded",
        "nn/test_compositions.py::test_any_composition_is_its_equations",  # gradients too
        "nn/test_gru.py::test_autocast_gives_torchs_dtypes_at_full_precision",
    ],
    "irregular samples, as GRU-D takes them": [
        "nn/test_call.py::test_it_computes_the_equations",  # with a decay by unit as `keep`
        "nn/test_call.py::test_keep_may_be_one_view_for_all",
    ],
    "forecasting libraries wrap it slowly": [
        "nn/test_accelerate.py::test_a_model_computes_what_it_did",
        "nn/test_work.py::test_an_accelerated_model_calls_a_fraction_of_torchs_operators",
        "forecast/test_forecaster.py::test_a_saved_model_forecasts_the_same",
    ],
    "proj_size is refused": [
        "nn/test_options.py::test_a_projection_is_a_recurrence_of_lower_rank",
    ],
    "the equations of courses, papers and libraries differ": [
        "test_weights.py::test_ngs_gate_near_one_takes_the_candidate_and_near_zero_keeps_the_past",
        "nn/test_call.py::test_it_computes_the_equations",
        "reference/test_gru.py::test_agrees_with_torch",
    ],
}


def test_the_list_is_whole():
    assert len(PAINS) == 25


@pytest.mark.parametrize("place", sorted({place for places in PAINS.values() for place in places}))
def test_what_is_promised_is_tested(place):
    path, name = place.split("::")
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
