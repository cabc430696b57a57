//! The Grafana dashboard, built from a table of panels.

use serde_json::{Value, json};

/// Version of Grafana's form of dashboards that this is (Grafana 8 and newer read it).
const SCHEMA_VERSION: u32 = 36;
/// Columns of Grafana's grid.
const GRID: usize = 24;
/// Height of a panel in rows of the grid.
const HEIGHT: usize = 7;

/// How a panel shows its values.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The newest value, large.
    Stat,
    /// Lines over time.
    Lines,
}

/// A panel: title, unit of Grafana, and expressions with the legend of each.
struct Panel(Kind, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// A row of panels.
struct Row(&'static str, &'static [Panel]);

const ROWS: [Row; 5] = [
    Row(
        "The cluster",
        &[
            Panel(
                Kind::Stat,
                "Roles that do not answer",
                "short",
                &[(r#"count(up{job="autonomys", cluster="$cluster"} == 0) or vector(0)"#, "")],
            ),
            Panel(
                Kind::Stat,
                "Sectors plotted",
                "short",
                &[(r#"sum(autonomys_sectors_plotted{cluster="$cluster"})"#, "")],
            ),
            Panel(
                Kind::Stat,
                "Sectors to plot",
                "short",
                &[(
                    r#"sum(autonomys_sectors_total{cluster="$cluster"}) - sum(autonomys_sectors_plotted{cluster="$cluster"})"#,
                    "",
                )],
            ),
            Panel(
                Kind::Stat,
                "Solutions accepted in a day",
                "short",
                &[(
                    r#"sum(increase(autonomys_solutions_accepted_total{cluster="$cluster", role="plot-client"}[1d]))"#,
                    "",
                )],
            ),
            Panel(
                Kind::Stat,
                "Solutions to be expected in a day",
                "short",
                &[(r#"autonomys:solutions_expected:rate{cluster="$cluster"} * 86400"#, "")],
            ),
            Panel(
                Kind::Stat,
                "Pieces that caches lack",
                "short",
                &[(r#"max(autonomys_pieces_missing{cluster="$cluster"})"#, "")],
            ),
        ],
    ),
    Row(
        "Farming",
        &[
            Panel(
                Kind::Lines,
                "Slots a second",
                "short",
                &[(r#"rate(autonomys_slots_seen_total{cluster="$cluster"}[5m])"#, "{{host}} {{role}}")],
            ),
            Panel(
                Kind::Lines,
                "Slots skipped, sectors left out",
                "percentunit",
                &[
                    (r#"autonomys:slots_skipped:ratio10m{cluster="$cluster"}"#, "{{host}} farm {{farm_id}}"),
                    (r#"autonomys:sectors_left_out:ratio10m{cluster="$cluster"}"#, "{{host}} left out"),
                ],
            ),
            Panel(
                Kind::Lines,
                "Solutions an hour",
                "short",
                &[
                    (
                        r#"sum(increase(autonomys_candidates_total{cluster="$cluster"}[1h]))"#,
                        "winning chunks",
                    ),
                    (
                        r#"sum(increase(autonomys_solutions_sent_total{cluster="$cluster", role="plot-client"}[1h]))"#,
                        "sent",
                    ),
                    (
                        r#"sum(increase(autonomys_solutions_accepted_total{cluster="$cluster", role="plot-client"}[1h]))"#,
                        "accepted",
                    ),
                    (
                        r#"sum by (reason) (increase(autonomys_solutions_rejected_total{cluster="$cluster", role="plot-client"}[1h]))"#,
                        "rejected: {{reason}}",
                    ),
                ],
            ),
            Panel(
                Kind::Lines,
                "Time of an audit",
                "s",
                &[(
                    r#"histogram_quantile(0.99, sum by (host, le) (rate(subspace_farmer_farm_auditing_time_seconds_bucket{cluster="$cluster"}[5m])))"#,
                    "{{host}} 99 %",
                )],
            ),
            Panel(
                Kind::Lines,
                "Time from slot to solution",
                "s",
                &[(
                    r#"histogram_quantile(0.99, sum by (host, le) (rate(autonomys_solution_seconds_bucket{cluster="$cluster"}[1h])))"#,
                    "{{host}} 99 %",
                )],
            ),
            Panel(
                Kind::Lines,
                "Proofs an hour that came to nothing",
                "short",
                &[
                    (
                        r#"sum by (host, role) (increase(autonomys_proofs_late_total{cluster="$cluster"}[1h]))"#,
                        "{{host}} {{role}} late",
                    ),
                    (
                        r#"sum by (host, reason) (increase(autonomys_proofs_failed_total{cluster="$cluster", role="plot-client"}[1h]))"#,
                        "{{host}} {{reason}}",
                    ),
                    (
                        r#"sum by (host) (increase(autonomys_proofs_refused_busy_total{cluster="$cluster"}[1h]))"#,
                        "{{host}} proof-server busy",
                    ),
                ],
            ),
        ],
    ),
    Row(
        "Plotting",
        &[
            Panel(
                Kind::Lines,
                "Sectors an hour",
                "short",
                &[
                    (
                        r#"sum by (host) (increase(autonomys_sectors_stored_total{cluster="$cluster"}[1h]))"#,
                        "{{host}} stored",
                    ),
                    (
                        r#"increase(subspace_farmer_plotter_sector_encoded_counter_sectors_total{cluster="$cluster"}[1h])"#,
                        "{{host}} {{program}} encoded",
                    ),
                ],
            ),
            Panel(
                Kind::Lines,
                "Time of a sector",
                "s",
                &[
                    (
                        r#"histogram_quantile(0.5, sum by (program, host, le) (rate(subspace_farmer_plotter_sector_downloading_time_seconds_bucket{cluster="$cluster"}[1h])))"#,
                        "{{host}} {{program}} fetch",
                    ),
                    (
                        r#"histogram_quantile(0.5, sum by (program, host, le) (rate(subspace_farmer_plotter_sector_encoding_time_seconds_bucket{cluster="$cluster"}[1h])))"#,
                        "{{host}} {{program}} encode",
                    ),
                ],
            ),
            Panel(
                Kind::Lines,
                "Sectors that wait",
                "short",
                &[
                    (r#"autonomys_spool_sectors{cluster="$cluster"}"#, "{{host}} {{program}} spooled"),
                    (r#"autonomys_sectors_expiring{cluster="$cluster"}"#, "{{host}} expiring"),
                ],
            ),
        ],
    ),
    Row(
        "Caches",
        &[
            Panel(
                Kind::Lines,
                "Pieces held",
                "short",
                &[(
                    r#"subspace_farmer_farmer_cache_piece_cache_capacity_used_Pieces{cluster="$cluster"}"#,
                    "{{host}} {{role}}",
                )],
            ),
            Panel(
                Kind::Lines,
                "Pieces missing",
                "short",
                &[
                    (r#"max(autonomys_pieces_missing{cluster="$cluster"})"#, "lacking"),
                    (r#"max(autonomys_pieces_without_place{cluster="$cluster"})"#, "without place"),
                    (
                        r#"max(autonomys_segments_to_archive_again{cluster="$cluster"})"#,
                        "segments to archive again",
                    ),
                ],
            ),
            Panel(
                Kind::Lines,
                "Bytes served a second",
                "Bps",
                &[(r#"rate(autonomys_bytes_served_total{cluster="$cluster"}[5m])"#, "{{host}} {{role}}")],
            ),
        ],
    ),
    Row(
        "Nodes and disks",
        &[
            Panel(
                Kind::Lines,
                "Blocks behind",
                "short",
                &[(r#"autonomys_node_blocks_behind{cluster="$cluster"}"#, "{{host}}")],
            ),
            Panel(
                Kind::Lines,
                "Who leads",
                "short",
                &[(r#"autonomys_leads{cluster="$cluster"}"#, "{{host}}")],
            ),
            Panel(
                Kind::Lines,
                "Free space of disks",
                "bytes",
                &[(
                    r#"node_filesystem_avail_bytes{cluster="$cluster", fstype!~"tmpfs|ramfs|overlay|squashfs|iso9660"}"#,
                    "{{host}} {{mountpoint}}",
                )],
            ),
        ],
    ),
];

/// The dashboard as Grafana imports it.
pub(super) fn dashboard() -> Value {
    let mut panels = Vec::new();
    let mut top = 0;
    for Row(title, row) in ROWS {
        panels.push(json!({
            "id": panels.len() + 1, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": GRID, "h": 1},
        }));
        top += 1;
        let in_line = if row.len() % 6 == 0 && matches!(row[0].0, Kind::Stat) { 6 } else { 3 };
        for (place, panel) in row.iter().enumerate() {
            let width = GRID / in_line;
            let position = json!({"x": place % in_line * width, "y": top + place / in_line * HEIGHT, "w": width, "h": HEIGHT});
            panels.push(panel.to_json(panels.len() + 1, position));
        }
        top += row.len().div_ceil(in_line) * HEIGHT;
    }
    json!({
        "uid": "autonomys-cluster",
        "title": "Autonomys farming cluster",
        "tags": ["autonomys"],
        "schemaVersion": SCHEMA_VERSION,
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
            {
                "name": "cluster", "type": "query", "label": "Cluster", "datasource": source(), "refresh": 1,
                "query": {"query": "label_values(up{job=\"autonomys\"}, cluster)", "refId": "cluster"},
            },
        ]},
        "panels": panels,
    })
}

/// The Prometheus that is chosen at the top.
fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

impl Panel {
    fn to_json(&self, id: usize, position: Value) -> Value {
        let Self(kind, title, unit, expressions) = self;
        let targets: Vec<_> = ('A'..='Z')
            .zip(*expressions)
            .map(|(name, (expression, legend))| {
                json!({"refId": name, "expr": expression, "legendFormat": legend, "datasource": source()})
            })
            .collect();
        json!({
            "id": id,
            "type": match kind { Kind::Stat => "stat", Kind::Lines => "timeseries" },
            "title": title,
            "datasource": source(),
            "gridPos": position,
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": targets,
        })
    }
}
