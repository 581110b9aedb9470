//! The frozen names, and how many series they may cost.

use super::*;

/// The value of the line that starts with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_frozen_name_stands_at_zero_on_a_fresh_start() {
    let text = Metrics::new(1000).unwrap().render();
    for series in [
        "aetherlink_acculynx_scheduled_imports_total{tenant=\"other\"}",
        "aetherlink_local_actions_total{action=\"pause\",tenant=\"other\"}",
        "command_center_health",
        "command_center_uptime_seconds",
        "command_center_events_total{event_type=\"scheduler.schedule.created\",severity=\"info\"}",
        "command_center_api_requests_total{endpoint=\"/ops/health\",method=\"GET\",status=\"200\"}",
        "errors_total",
        "command_center_api_request_duration_seconds_count{endpoint=\"/ops/health\",method=\"GET\"}",
        "command_center_fire_lateness_seconds_count",
        "command_center_import_duration_seconds_count{connector=\"acculynx\"}",
        "command_center_reconcile_duration_seconds_count",
        "command_center_convergence_seconds_count",
        "command_center_persistence_operations_total{operation=\"apply\"}",
        "command_center_scheduler_runs_total{connector=\"acculynx\",outcome=\"ok\"}",
        "command_center_analytics_queries_total",
        "command_center_replication_entries_total",
        "command_center_deliveries_total{status=\"failed\"}",
        "command_center_disk_free_bytes",
        "command_center_database_bytes",
        "command_center_database_wal_bytes",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series} in\n{text}");
    }
    let nonzero = text.lines().find(|line| !line.starts_with('#') && !line.ends_with(" 0"));
    assert_eq!(nonzero, None);
}

#[test]
fn tenants_beyond_the_limit_share_one_label() {
    let metrics = Metrics::new(2).unwrap();
    for tenant in ["a", "b", "c", "d", "a"] {
        metrics.scheduled_import(tenant);
    }
    metrics.local_action("b", "pause");
    metrics.local_action("d", "pause");
    let text = metrics.render();
    let imports =
        |tenant: &str| value(&text, &format!("aetherlink_acculynx_scheduled_imports_total{{tenant=\"{tenant}\"}}"));
    assert_eq!((imports("a"), imports("b"), imports("other")), (Some(2.0), Some(1.0), Some(2.0)));
    assert_eq!((imports("c"), imports("d")), (None, None));
    let paused =
        |tenant: &str| value(&text, &format!("aetherlink_local_actions_total{{action=\"pause\",tenant=\"{tenant}\"}}"));
    assert_eq!((paused("b"), paused("other"), paused("d")), (Some(1.0), Some(1.0), None));
}

#[test]
fn odd_labels_are_counted_and_cost_no_series_of_their_own() {
    let metrics = Metrics::new(0).unwrap();
    metrics.scheduled_import("a\"\n\\");
    metrics.api_request("BREW", "/ops/ping", 405, 0.001);
    metrics.api_request("CHURN", "/ops/ping", 405, f64::NAN);
    let text = metrics.render();
    let series = "command_center_api_requests_total{endpoint=\"/ops/ping\",method=\"other\",status=\"405\"}";
    assert_eq!(value(&text, series), Some(2.0));
    assert_eq!(value(&text, "aetherlink_acculynx_scheduled_imports_total{tenant=\"other\"}"), Some(1.0));
}
