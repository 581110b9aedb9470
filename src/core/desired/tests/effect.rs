//! Keys that are good each by itself and have no effect together.

use super::diagnostics::check;

#[test]
fn what_has_no_effect_is_told_at_its_place() {
    check(
        "interval_sec: 60\ncatch_up_max: 5\n",
        &[
            "2:1 unused-rule /catch_up_max: catch_up_max has no effect: catch_up is \"latest\" (remove it, or set \"catch_up: all\")",
        ],
    );
    check(
        "interval_sec: 60\ncatch_up: none\ncatch_up_window_sec: 5\n",
        &[
            "3:1 unused-rule /catch_up_window_sec: catch_up_window_sec has no effect: catch_up is \"none\" (remove it, or set \"catch_up: latest\" or \"catch_up: all\")",
        ],
    );
    check(
        "interval_sec: 60\nretries: 0\nretry_backoff_sec: 5\n",
        &[
            "3:1 unused-rule /retry_backoff_sec: retry_backoff_sec has no effect: a failed run is not tried again (remove it, or add \"retries: 3\")",
        ],
    );
    check(
        "jitter_sec: 60\ninterval_sec: 60\n",
        &[
            "1:1 wide-jitter /jitter_sec: jitter_sec is 60, not less than interval_sec, which is 60 (remove it: schedules of equal intervals are spread over the interval as it is)",
        ],
    );
    check(
        "cron: 0 0 1 1 *\nstart_at: 2026-02-01T00:00Z\nend_at: 2026-03-01T00:00Z\n",
        &[
            "3:1 no-slot /end_at: no slot lies between start_at and end_at: the schedule never runs (set them farther apart, or remove one of them)",
        ],
    );
}

#[test]
fn what_has_an_effect_is_not_told_of() {
    for good in [
        "interval_sec: 60\ncatch_up: all\ncatch_up_max: 5\ncatch_up_window_sec: 600\njitter_sec: 59\n",
        "interval_sec: 60\ncatch_up_window_sec: 600\nretries: 1\nretry_backoff_sec: 5\n",
        "cron: 0 0 1 1 *\njitter_sec: 3600\nstart_at: 2026-02-01T00:00Z\nend_at: 2027-03-01T00:00Z\n",
    ] {
        check(good, &[]);
    }
}

#[test]
fn the_field_of_a_cron_expression_is_named() {
    let about = |name: &str, field: &str, text: &str| {
        check(
            &format!("cron: \"{text}\"\n"),
            &[&format!(
                "1:7 bad-cron /cron: cron \"{text}\": the {name} \"{field}\" is not valid (the {name} is {}, a range, a list, or steps such as */5)",
                match name {
                    "hour" => "0 to 23",
                    "month" => "1 to 12 or JAN to DEC",
                    _ => "0 to 7 or SUN to SAT",
                }
            )],
        );
    };
    about("hour", "24", "0 24 * * *");
    about("month", "JUNO", "0 0 1 JUNO *");
    about("day of week", "1-9", "0 0 * * 1-9");
}
