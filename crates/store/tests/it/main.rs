//! One suite, every store: each case runs by its own name on PostgreSQL and on SQLite.
//!
//! A case is named after a sentence of the contract in `Store`. It is handed a store on a
//! database of its own and a clock that stands still; nothing sleeps.

mod aliases;
mod announced;
mod batches;
mod bulk_redelivery;
mod credentials;
mod dedup;
mod diagnostics;
mod enqueue;
mod erase;
mod fan_out;
mod gates;
mod gauges;
mod health;
mod held;
mod history;
mod hook_history;
mod hooks;
mod idempotency;
mod keys;
mod lease_group;
mod leases;
mod order_changed;
mod ordered;
mod partitions;
mod recover;
mod redeliver;
mod rejected;
mod retention;
mod schema;
mod secrets;
mod settle;
mod support;
mod targets;
mod upkeep;

use postrider_store::Backend;
use postrider_tests::TestStore;

/// Makes a test of each case, on one store.
macro_rules! on_one_store {
    ($backend:ident: $($module:ident::{$($case:ident),+ $(,)?}),+ $(,)?) => {$(
        mod $module {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::$module::$case(&TestStore::on(Backend::$backend).await).await;
                }
            )+
        }
    )+};
}

/// Makes a test of each case on every store.
macro_rules! on_every_store {
    ($($cases:tt)+) => {
        mod postgres {
            use super::*;
            on_one_store! { Postgres: $($cases)+ }
        }

        mod sqlite {
            use super::*;
            on_one_store! { Sqlite: $($cases)+ }
        }
    };
}

on_every_store! {
    schema::{
        migrating_an_empty_database_makes_it_current,
        migrating_again_changes_nothing,
        of_several_that_migrate_at_once_one_does_the_work,
        a_database_too_new_for_the_binary_is_refused,
        tables_without_a_record_of_their_migration_are_damage,
        a_missing_table_is_damage,
        a_database_without_our_tables_says_what_to_do,
        no_table_of_others_is_needed_or_touched,
        the_databases_clock_goes_forward,
        after_closing_every_call_fails,
    },
    aliases::{
        a_hook_is_found_by_its_alias_in_its_account_only,
        hooks_are_shown_with_what_they_were_given_the_last_alias_first,
        an_alias_is_given_once_in_its_profile,
        numbers_count_up_in_their_profile_and_are_never_drawn_again,
        of_calls_at_once_no_more_succeed_than_the_account_may_have,
        hooks_of_one_profile_are_listed,
        an_edit_changes_what_it_names_and_nothing_else,
        an_edit_is_made_as_a_whole_or_not_at_all,
        activating_by_an_edit_forgets_failures,
        the_latest_answer_is_kept_whatever_the_order,
    },
    enqueue::{
        ids_come_back_in_the_order_of_the_events,
        all_events_of_a_call_are_inserted_or_none,
        a_broken_bound_is_refused_before_anything_is_written,
        a_payload_of_the_largest_size_is_kept,
        a_payload_is_kept_byte_for_byte,
        any_json_is_a_payload,
        every_field_of_an_event_is_kept,
        an_event_without_a_time_happened_when_it_was_inserted,
        a_key_decides_the_slot,
        thousands_of_events_fit_into_one_call,
        no_events_are_no_work,
        the_documented_insert_is_enough,
        the_outbox_refuses_what_is_no_payload,
        peek_names_the_slots_that_have_rows,
        the_version_grows_with_every_change_of_a_hook,
        what_breaks_a_bound_is_named,
    },
    fan_out::{
        each_matching_hook_of_the_account_gets_a_delivery,
        a_hook_with_a_filter_gets_only_what_fits,
        a_changed_filter_decides_about_events_read_later,
        a_payload_that_no_filter_can_read_fits_none_and_is_counted,
        rows_leave_the_outbox_with_their_deliveries,
        what_was_rolled_back_is_never_delivered,
        a_hook_made_just_before_the_event_gets_it,
        a_hook_removed_elsewhere_gets_nothing_more,
        an_event_for_no_hook_is_kept,
        only_what_fits_into_the_room_starts,
        the_room_of_each_hook_is_its_own,
        deliver_after_is_waited_for,
        deliver_after_beyond_the_retention_is_rejected,
        a_paused_hook_gets_deliveries_that_are_held,
        events_are_taken_in_the_order_of_insertion,
        a_full_batch_says_that_there_may_be_more,
        a_batch_is_bounded_by_its_deliveries,
        a_batch_is_bounded_by_the_bytes_of_its_payloads,
        a_payload_larger_than_the_bound_is_taken_alone,
        no_row_is_taken_by_two_callers,
        only_the_named_slot_is_worked_on,
        thousands_of_deliveries_come_of_one_batch,
        a_delivery_finds_its_event_on_a_later_day,
    },
    rejected::{
        a_bad_row_among_a_thousand_is_rejected_alone,
        a_row_the_database_refuses_to_keep_is_rejected_alone,
        several_rows_the_database_refuses_are_rejected_alone,
        an_id_used_before_is_rejected_alone,
        a_damaged_database_rejects_no_row,
        a_time_beyond_the_calendar_is_rejected_alone,
        headers_that_are_none_are_rejected_alone,
        a_rejected_id_is_rejected_again_beside_itself,
        a_refused_event_leaves_no_delivery_behind,
        a_rejected_row_uses_up_no_deduplication_key,
        what_was_rejected_is_kept_as_it_was,
        rejected_rows_are_listed_newest_first,
    },
    dedup::{
        a_repeat_in_the_same_batch_is_dropped,
        a_repeat_in_a_later_batch_is_dropped,
        accounts_do_not_share_keys,
        events_without_a_key_are_never_repeats,
        what_is_left_for_the_next_batch_is_judged_there,
        of_two_workers_with_the_same_key_one_delivers,
    },
    leases::{
        only_what_is_due_is_leased,
        the_longest_due_comes_first,
        a_leased_delivery_carries_all_that_an_attempt_needs,
        each_hook_gives_at_most_what_is_wanted_of_it,
        only_the_wanted_hooks_give_any,
        no_delivery_is_leased_to_two_callers,
        a_hook_that_is_not_active_gives_none,
        a_removed_hook_gives_none,
        an_expired_lease_is_leased_again_once_recovered,
        a_delivery_whose_event_is_gone_is_not_leased,
        events_of_several_days_are_leased_together,
        due_hooks_are_those_with_deliveries_that_wait,
        due_hooks_are_walked_by_id,
        a_hook_whose_deliveries_are_all_leased_is_not_due,
        slots_are_those_that_have_deliveries,
        what_is_released_is_due_at_once,
        releasing_counts_neither_an_attempt_nor_a_lost_lease,
        under_another_token_nothing_is_released,
    },
    batches::{
        deliveries_wait_for_others_as_long_as_the_window,
        a_batch_has_one_type_and_so_many_in_the_order_of_insertion,
        a_batch_counts_as_one,
        events_with_other_headers_go_in_another_batch,
        large_payloads_make_small_batches,
        deliver_after_is_waited_for_by_each,
        an_ordered_hook_gets_its_events_one_by_one,
        what_was_cut_stays_together_when_it_is_given_back,
        what_was_cut_stays_together_when_its_worker_is_lost,
        what_was_cut_stays_together_when_it_is_tried_again,
        losing_three_workers_is_one_attempt_of_the_whole_batch,
        a_batch_fails_once_and_each_delivery_tells_it,
        a_batch_whose_schedule_is_used_up_fails_as_a_whole,
        a_batch_whose_lease_was_lost_is_late_as_a_whole,
        what_the_database_refuses_of_one_splits_no_batch,
        one_that_is_sent_again_leaves_the_others,
        one_that_is_given_up_leaves_the_others,
        one_whose_event_is_erased_leaves_the_others,
        one_whose_event_is_gone_leaves_the_others,
        one_whose_event_is_past_leaves_the_others,
        held_batches_are_given_up_whatever_the_pages,
        held_batches_are_sent_again_whatever_the_pages,
        batches_of_a_deleted_hook_are_cancelled,
        several_that_lease_at_once_cut_nothing_twice,
    },
    order_changed::{
        one_that_has_failed_for_good_holds_its_key_until_it_is_taken,
        one_that_holds_its_key_can_be_discarded,
        what_is_behind_what_was_discarded_has_its_turn,
        one_that_waits_can_be_discarded,
        what_is_in_flight_or_has_ended_cannot_be_discarded,
        what_holds_its_key_keeps_its_place_when_many_are_sent_again,
        a_repeat_waits_for_none_and_holds_up_none,
        a_hook_may_become_ordered_while_deliveries_wait,
        a_hook_may_become_ordered_while_deliveries_are_in_flight,
        a_hook_may_stop_being_ordered,
        a_hook_that_begins_to_skip_lets_held_keys_go,
        a_removed_hooks_keys_are_cancelled,
    },
    ordered::{
        of_each_key_one_goes_at_a_time_in_the_order_of_insertion,
        what_has_no_key_waits_for_none,
        a_key_that_is_tried_again_holds_up_no_other,
        what_is_behind_is_shown_so,
        a_hook_that_skips_goes_on,
        a_lost_lease_keeps_its_place,
        what_is_given_back_keeps_its_place,
        a_late_settlement_gives_no_turn,
        a_delivery_that_lost_its_workers_holds_its_key_too,
        a_delivery_that_lost_its_workers_is_skipped_too,
        an_earlier_one_that_comes_late_goes_first_but_never_beside_another,
        deliver_after_is_kept_behind_others,
        what_nothing_stands_before_has_its_turn_at_the_latest_with_upkeep,
        any_number_of_keys_is_looked_over_some_at_a_time,
        much_behind_one_delivery_costs_other_keys_no_place,
        turns_are_given_however_fan_out_and_settling_race,
    },
    recover::{
        a_lease_that_has_not_ended_is_left_alone,
        exactly_what_was_not_settled_comes_back,
        at_most_the_limit_is_recovered,
        two_that_recover_at_once_share_the_work,
        the_third_loss_in_a_row_is_an_attempt,
        the_losses_are_counted_anew_after_an_attempt,
        a_hooks_own_schedule_counts,
        a_lost_worker_uses_up_the_schedule_too,
        a_lost_lease_of_a_hook_not_active_comes_back_held,
    },
    settle::{
        a_delivered_one_is_over_and_its_attempt_tells,
        a_retry_waits_for_its_time,
        a_failed_one_stands_with_its_reason,
        a_stale_token_changes_nothing,
        a_settlement_of_an_ended_delivery_is_late,
        a_settlement_made_before_changes_nothing_at_all,
        a_batch_may_mix_new_late_and_repeated_settlements,
        a_late_attempt_is_recorded_once,
        a_response_is_stored_whatever_bytes_it_has,
        an_error_text_loses_its_nul,
        a_refused_response_is_scrubbed_while_the_others_settle,
        a_thousand_settle_in_one_call,
        nothing_to_settle_is_no_work,
        settling_does_not_depend_on_the_hook_still_being_there,
    },
    lease_group::{
        an_expired_lease_comes_back_in_parts,
        a_lease_that_comes_back_in_parts_holds_for_none,
        at_the_moment_it_runs_out_a_lease_holds_for_all_or_for_none,
        one_given_back_and_delivered_by_another_is_not_made_again,
        a_settlement_of_one_given_back_is_late,
        only_open_ones_are_given_back,
        one_given_back_and_cancelled_is_not_made_again,
        a_settled_one_never_comes_back,
        a_retry_outlives_the_lease_it_began_under,
        a_batch_settled_before_changes_nothing_while_others_are_open,
        a_second_attempt_under_the_lease_is_late,
        a_late_attempt_leaves_it_open,
        an_open_one_is_not_sent_again,
        one_of_several_whose_lease_has_run_out_is_sent_again,
        open_ones_are_listed_as_in_flight,
    },
    health::{
        the_fail_count_goes_one_two_zero,
        a_success_that_finds_no_failures_writes_no_health,
        a_success_after_a_reset_writes_no_health,
        settling_never_writes_the_hook_itself,
        attempts_count_in_the_order_they_ended,
        failures_are_each_hooks_own,
        count_and_span_together_disable,
        the_count_without_the_span_disables_nothing,
        the_span_without_the_count_disables_nothing,
        a_success_in_the_same_batch_spares_the_hook,
        the_policy_of_the_latest_version_decides,
        a_failure_known_too_late_tells_how_the_hook_stands,
        an_answer_of_410_disables_at_once_as_gone,
        a_hook_disabled_for_failures_still_gets_deliveries,
        a_hook_is_disabled_once,
        only_an_active_hook_is_disabled,
        enabling_delivers_what_was_held,
        a_blocked_address_counts_as_a_failure,
        settling_many_hooks_at_once_does_not_deadlock,
    },
    gates::{
        fan_out_starts_nothing_of_a_gated_hook,
        failures_in_a_row_back_a_hook_off,
        a_hook_that_is_busy_is_left_alone_at_once,
        a_probe_that_is_taken_lets_the_hook_ramp_up,
        a_ramp_that_failed_meanwhile_does_not_end,
        enabling_begins_with_a_probe,
        limits_are_set_and_taken_back,
        attempts_settled_out_of_order_undo_nothing,
    },
    gauges::{
        an_empty_database_has_nothing_that_waits,
        what_waits_is_told_by_how_it_waits,
        a_hook_with_any_limit_or_an_order_is_gated,
        the_oldest_row_of_the_outbox_tells_its_age,
        hooks_are_counted_as_they_stand,
        counts_end,
        a_sample_serves_all_for_ten_seconds,
        while_one_takes_a_sample_others_are_given_the_one_before,
        several_may_ask_at_once,
        a_sample_that_cannot_be_read_is_none,
        connections_are_told_by_their_pools,
    },
    hooks::{
        a_registered_hook_is_shown_as_it_was_given,
        a_hook_that_cannot_work_is_refused,
        a_person_pauses_disables_and_enables,
        the_same_change_may_be_made_twice,
        a_filter_is_set_and_taken_away,
        settings_of_a_newer_version_are_not_overwritten,
        enabling_forgets_the_failures,
        a_rotated_secret_signs_beside_the_old_one_for_a_while,
        a_change_made_elsewhere_is_seen_at_once,
        a_removed_hook_is_not_found,
        an_unknown_hook_is_not_found,
        hooks_are_listed_page_by_page,
        held_deliveries_are_counted,
        health_is_shown_in_the_list_too,
        what_is_in_flight_ends_as_it_does_when_its_hook_is_paused,
    },
    idempotency::{
        a_repeated_call_inserts_nothing_and_is_told_the_same_ids,
        something_else_under_the_same_key_is_a_mismatch,
        the_key_of_another_caller_is_another_call,
        of_calls_at_the_same_time_one_inserts,
        a_call_that_is_refused_is_not_recorded,
        a_call_is_forgotten_after_its_time,
    },
    hook_history::{
        every_change_is_recorded_with_who_made_it_and_why,
        a_change_that_changes_nothing_is_not_recorded,
        a_change_that_fails_is_not_recorded,
        disabling_is_recorded_with_the_failures,
        half_of_the_way_is_warned_of_once_in_a_row_of_failures,
        enabling_begins_a_new_row_that_may_be_warned_of,
        a_hook_that_is_not_active_is_not_warned_of,
        what_is_disabled_in_the_same_batch_is_not_warned_of,
        those_who_disable_and_enable_at_once_leave_one_trail,
        history_is_listed_newest_first_page_by_page,
        the_newest_500_changes_of_a_hook_are_kept,
        an_unknown_hook_has_no_history,
    },
    announced::{
        a_warning_and_a_disabling_reach_those_who_ask_for_them,
        a_delivery_that_failed_for_good_is_announced,
        a_delivery_that_lost_its_workers_for_good_is_announced,
        a_person_who_disables_and_enables_is_announced,
        nothing_is_made_where_nobody_asks_for_it,
        a_hook_never_gets_what_is_about_itself,
        failures_of_our_own_events_make_no_others,
        our_own_types_are_refused_from_applications,
        hundreds_are_announced_by_one_settlement,
    },
    held::{
        the_oldest_that_is_held_is_told,
        held_deliveries_are_discarded_page_by_page,
        only_what_is_old_enough_is_discarded,
        nothing_is_discarded_of_an_active_hook,
        what_is_in_flight_is_not_discarded,
        what_was_discarded_can_be_sent_again,
        of_two_that_discard_at_once_each_delivery_ends_once,
        a_mark_survives_being_written_out,
    },
    bulk_redelivery::{
        failed_ones_are_due_again_page_by_page,
        delivered_ones_are_sent_again_under_the_same_id,
        only_the_state_that_is_meant_is_sent_again,
        only_the_time_that_is_meant_is_sent_again,
        only_the_types_that_are_meant_are_sent_again,
        those_of_another_hook_are_left_alone,
        held_ones_begin_their_schedules_anew_each_once,
        what_is_on_its_way_cannot_be_asked_for,
        those_of_a_deleted_hook_are_a_conflict,
        those_whose_event_is_gone_are_passed_over,
        those_of_several_days_are_sent_again,
        several_that_ask_at_once_make_each_delivery_once,
    },
    keys::{
        a_key_is_found_by_the_hash_of_its_token,
        a_key_that_breaks_a_bound_is_refused,
        a_hash_that_another_key_has_is_refused,
        keys_are_listed_page_by_page_revoked_ones_included,
        a_revoked_key_is_not_found_any_more,
        one_that_is_revoked_already_keeps_the_time,
        an_unknown_key_cannot_be_revoked,
        a_key_made_or_revoked_elsewhere_is_seen_at_once,
        a_use_is_recorded_once_a_minute,
        uses_of_unknown_keys_are_passed_over,
        several_may_record_uses_at_once,
    },
    credentials::{
        a_registrant_is_found_by_what_it_shows,
        the_secret_of_a_registrant_is_sealed,
        a_credential_that_breaks_a_bound_is_refused,
        what_a_registrant_shows_is_its_own_until_it_is_revoked,
        a_registrant_may_do_what_was_last_said,
        only_credentials_of_registrants_are_changed,
        a_registrants_token_is_no_key_of_our_api,
        a_signature_is_taken_once,
        of_several_that_show_one_signature_at_once_one_is_taken,
        signatures_whose_moment_has_passed_are_forgotten,
    },
    secrets::{
        no_secret_stands_in_the_database_in_the_clear,
        what_was_sealed_opens_again,
        a_hook_whose_secret_cannot_be_opened_waits,
        one_locked_hook_does_not_stop_the_others,
    },
    history::{
        listings_keep_to_an_account_and_a_time,
        an_event_is_shown_wherever_it_is,
        events_are_listed_newest_first_wherever_they_are,
        events_are_listed_page_by_page,
        events_are_listed_by_account_and_type,
        a_delivery_is_shown_wherever_it_is,
        deliveries_are_listed_newest_first_wherever_they_are,
        deliveries_are_listed_by_state,
        deliveries_are_listed_by_hook_and_by_event,
        deliveries_are_listed_page_by_page,
        a_removed_hooks_deliveries_can_still_be_looked_up,
        attempts_come_in_the_order_they_were_made,
        history_spans_the_slots,
    },
    redeliver::{
        one_that_waits_is_due_now_with_its_schedule_begun_anew,
        one_that_failed_is_sent_again,
        one_that_was_delivered_is_sent_again,
        one_that_is_sent_again_is_listed_once,
        one_that_fails_again_keeps_its_latest_reason,
        one_in_flight_is_a_conflict,
        one_whose_lease_has_run_out_is_sent_again,
        one_whose_hook_was_deleted_is_a_conflict,
        one_of_a_paused_hook_is_held,
        an_unknown_one_is_not_found,
        several_that_ask_at_once_make_one_delivery,
        one_that_ends_meanwhile_is_found,
        one_that_is_cancelled_meanwhile_is_a_conflict,
        one_whose_event_is_gone_is_a_conflict,
    },
    targets::{
        a_retry_goes_where_the_attempts_before_it_went,
        one_that_waited_before_goes_where_its_first_attempt_went,
        it_is_kept_when_given_back_and_when_workers_are_lost,
        a_late_settlement_keeps_none,
        one_that_is_sent_again_goes_where_the_hook_points,
        held_ones_that_are_sent_again_go_where_the_hook_points,
        a_target_is_sealed_for_its_hook,
        a_target_opens_with_the_key_it_was_sealed_with,
    },
    upkeep::{
        deliveries_of_a_deleted_hook_are_cancelled_in_batches,
        deliveries_of_other_hooks_are_left_alone,
        what_is_in_flight_is_cancelled_when_it_comes_back,
        deliveries_still_to_come_are_cancelled_too,
        a_jump_of_the_clock_finds_room_after_upkeep,
        several_may_do_upkeep_at_once,
    },
    diagnostics::{
        a_database_that_is_well_has_nothing_to_tell,
    },
    erase::{
        what_an_event_said_goes_and_what_waits_is_cancelled,
        what_is_being_attempted_is_erased_afterwards,
        an_erased_event_is_not_leased,
        an_event_in_the_outbox_is_taken_out_of_it,
        what_rejected_rows_said_goes_by_event_and_by_account,
        many_are_erased_in_one_call,
    },
    retention::{
        a_day_goes_when_its_last_moment_is_past,
        of_sixty_days_those_that_are_past_go,
        what_had_not_ended_is_ended_as_expired,
        many_are_ended_in_batches,
        one_in_flight_keeps_its_event,
        one_that_started_with_its_fan_out_keeps_its_event,
        what_expired_is_told_for_a_week_longer,
        attempts_may_go_before_their_events,
        keys_and_rejected_rows_go_with_the_events,
        a_jump_of_the_clock_by_a_day_takes_a_day,
        a_clock_that_jumps_by_a_year_takes_nothing_for_a_day,
        of_several_that_prune_at_once_one_does_the_work,
    },
}

/// What only PostgreSQL has: several workers, several slots, open transactions beside ours,
/// partitions, a password, and no key of its own making.
mod postgres_only {
    use super::*;
    on_one_store! { Postgres:
        schema::{
            slots_only_grow,
            slots_do_not_grow_while_rows_with_keys_are_queued,
            bare_inserts_spread_over_the_slots_and_keys_keep_theirs,
            a_password_is_not_told,
            any_number_of_workers_may_claim_a_server,
        },
        enqueue::{
            an_insert_that_fails_at_its_commit_is_told,
            a_key_decides_the_slot_as_soon_as_the_slots_have_grown,
        },
        gates::{
            a_gated_hook_gives_nothing_to_a_worker_that_does_not_own_it,
            a_hook_has_one_owner_until_its_time_has_run_out,
            of_many_that_ask_at_once_one_owns_each_hook,
            what_is_disowned_is_free_at_once,
            nobody_owns_a_hook_before_it_may_be_probed,
        },
        ordered::{
            one_at_a_time_fans_out_a_slot_for_ordered_hooks,
            the_next_owner_waits_for_what_is_in_flight,
        },
        order_changed::{
            slots_do_not_grow_while_ordered_deliveries_wait,
        },
        fan_out::{
            a_transaction_still_open_delays_only_its_own_rows,
        },
        rejected::{
            a_missing_partition_is_our_own_fault,
        },
        gauges::{
            tables_and_their_dead_rows_are_told,
            a_transaction_left_open_is_told,
            partitions_are_told,
        },
        diagnostics::{
            missing_partitions_are_named,
            a_transaction_that_stays_open_is_named,
            what_roles_may_insert_is_told,
        },
        retention::{
            a_long_reader_delays_what_it_reads_and_nothing_else,
            a_days_partitions_go_while_deliveries_run,
            what_a_process_that_died_had_begun_is_finished,
            a_partition_that_a_person_detached_is_left_alone,
            a_late_attempt_of_a_day_that_is_gone_stops_no_other,
        },
        partitions::{
            many_days_wait_for_a_long_reader_and_keep_nothing_else_waiting,
            a_retention_made_shorter_takes_many_days_under_load,
            a_partition_made_by_hand_is_left_alone_and_in_nobodys_way,
            a_table_named_like_a_partition_is_in_nobodys_way,
            beside_a_default_partition_nothing_goes_and_the_rest_goes_on,
            a_detaching_that_was_interrupted_is_finished,
            one_that_was_to_go_and_is_kept_may_be_detached_by_a_person,
            attempts_of_a_day_that_a_person_detached_go,
            what_a_view_needs_keeps_nothing_else,
            neither_time_zone_nor_style_of_dates_of_the_database_matters,
        },
        secrets::{
            without_a_key_no_secret_is_stored,
        },
    }
}

/// What only SQLite has: one slot, and text that is none.
mod sqlite_only {
    use super::*;
    on_one_store! { Sqlite:
        schema::{
            more_than_one_slot_is_refused,
            one_worker_at_a_time_claims_a_file,
        },
        rejected::{
            what_is_not_text_is_rejected_alone,
        },
    }
}
