//! Classic and native histograms of the same exchanges tell the same quantiles, in a real Prometheus.

use std::time::Duration;

use throttlescope::{
    metrics::HistogramMode,
    model::{Exchange, Phase, Role, Timeline, Vantage},
};

use crate::{
    metrics::{exchange, measured, target},
    prometheus::Prometheus,
    web::start,
};

/// Seconds that transfers take: from 0.1 s to 15 s, each 2.5 % longer than the one before.
fn durations() -> impl Iterator<Item = f64> {
    (0..200).map(|step| 0.1 * 1.025_f64.powi(step))
}

fn transfer_of(seconds: f64) -> Exchange {
    let mut phases = Timeline::default();
    for phase in [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Processing] {
        phases.record(phase, Duration::from_millis(10));
    }
    phases.record(Phase::Transfer, Duration::from_secs_f64(seconds));
    Exchange { duration: phases.total(), phases, ..exchange(131_072) }
}

#[tokio::test]
async fn classic_and_native_histograms_agree() {
    let web = start(None).await;
    web.metrics.configure(
        &[target("shop/images", Role::Subject)],
        &Vantage::default(),
        HistogramMode::Target,
    );
    let starts = [false, true].map(|native| Prometheus::start(web.address, native, &[]));
    let [Some(classic), Some(native)] = starts else { return };
    let family = "throttlescope_phase_duration_seconds";
    let labels = "{target=\"shop/images\",phase=\"transfer\"}";
    for seconds in durations() {
        web.metrics.observe(&measured("shop/images", transfer_of(seconds)));
    }
    let count = durations().count() as f64;
    while classic.value(&format!("{family}_count{labels}")).await < count {}
    while native.value(&format!("histogram_count({family}{labels})")).await < count {}
    let mut edges: Vec<f64> = Vec::new();
    for bucket in classic.query(&format!("{family}_bucket{labels}")).await {
        edges.push(bucket["metric"]["le"].as_str().unwrap().parse().unwrap());
    }
    edges.sort_by(f64::total_cmp);
    assert!(edges.len() >= 10, "{edges:?}");
    let sorted: Vec<f64> = durations().collect();
    for (quantile, word) in [(0.1, "0.1"), (0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")] {
        let truth = sorted[(quantile * count) as usize - 1];
        let by_native = native.value(&format!("histogram_quantile({word}, {family}{labels})")).await;
        // Schema 3: a bucket is 9 % wide.
        assert!(
            (by_native / truth).ln().abs() < 2_f64.powf(0.125).ln() + 0.025,
            "{word}: {by_native}, {truth}"
        );
        let by_classic = classic.value(&format!("histogram_quantile({word}, {family}_bucket{labels})")).await;
        let above = edges.partition_point(|edge| *edge < by_classic);
        let bucket = (edges[above - 1], edges[above]);
        assert!(bucket.0 <= truth && truth <= bucket.1, "{word}: {by_classic} in {bucket:?}, {truth}");
        println!("quantile {word}: truth {truth:.3} s, native {by_native:.3} s, classic {by_classic:.3} s");
    }
}
