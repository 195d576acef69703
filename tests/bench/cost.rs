//! The cost of a thousand rides at the list prices in `operator/prices.json`.

use serde::Deserialize;

use crate::city::{Arm, Metric, Played};
use crate::report::{Section, Table};
use crate::stats::number;

/// Stream reads per second of a shard without new records: the runtime pauses for 200 ms between two reads.
const STREAM_READS_PER_SHARD: f64 = 5.0;
const THOUSAND: f64 = 1_000.0;

#[derive(Deserialize)]
struct PriceFile {
    region: String,
    prices: Prices,
}

#[derive(Deserialize)]
struct Prices {
    write_units: Price,
    read_units: Price,
    stream_reads: Price,
    sqs: Price,
    sns: Price,
}

#[derive(Deserialize)]
struct Price {
    usd_per_million: f64,
    what: String,
    /// The service's own price list.
    list: String,
    /// The secondary source and the date on which it was read; absent for a price that was not verified.
    read_at: Option<String>,
    read_on: Option<String>,
}

impl Price {
    fn of_thousand(&self, each: f64) -> f64 {
        each * THOUSAND * self.usd_per_million / 1e6
    }
}

/// The cost of a thousand rides in a scenario.
pub(crate) fn section(played: &Played) -> anyhow::Result<Section> {
    let file: PriceFile = serde_json::from_str(include_str!("../../operator/prices.json"))?;
    let prices = &file.prices;
    let shards_s = STREAM_READS_PER_SHARD * 3600.0;
    Ok(Section {
        title: "What 1,000 rides cost",
        text: vec![format!(
            "{}, list prices of {} in `operator/prices.json`, without free tiers and volume discounts. Searches, \
             offers, answers and cancellations are counted in the model for all requests and divided by the number of \
             accepted rides. The route is that of the ride itself, one point every four seconds, without the write \
             units of indexes that contain whole items: with two of them A and B pay three times as much for it, and \
             our chunks are in none. Not included are costs that depend on time and not on rides. A worker reads each \
             shard of the stream up to five times a second, {} USD per hour and shard; Lambda reads it free of charge \
             and is billed in other ways.",
            played.name(),
            file.region,
            number(shards_s * prices.stream_reads.usd_per_million / 1e6)
        )],
        tables: vec![costs(played, prices), sources(prices)],
        ..Section::default()
    })
}

fn costs(played: &Played, prices: &Prices) -> Table {
    let head = ["Arm", "Read units", "Write units", "SQS", "SNS", "Dispatch", "Route", "Total", "Ratio to ours (D)"];
    let mut table = Table::new("USD for 1,000 accepted rides", &head);
    let parts = |arm| {
        let each = |metric| played.median(arm, metric);
        let writes = each(Metric::WriteUnits) + each(Metric::IndexUnits);
        let dispatch = [
            prices.read_units.of_thousand(each(Metric::ReadUnits)),
            prices.write_units.of_thousand(writes),
            prices.sqs.of_thousand(each(Metric::Sqs)),
            prices.sns.of_thousand(each(Metric::Sns)),
        ];
        (dispatch, prices.write_units.of_thousand(each(Metric::RouteUnits)))
    };
    let total = |arm| {
        let (dispatch, route): ([f64; 4], f64) = parts(arm);
        dispatch.iter().sum::<f64>() + route
    };
    for arm in Arm::ALL {
        let (dispatch, route) = parts(arm);
        let cells = dispatch.into_iter().chain([dispatch.iter().sum(), route, total(arm), total(arm) / total(Arm::D)]);
        table.row(std::iter::once(arm.name().to_owned()).chain(cells.map(number)));
    }
    table
}

fn sources(prices: &Prices) -> Table {
    let mut table = Table::new("Prices", &["What", "USD per million", "Price list", "Read"]);
    for price in [&prices.write_units, &prices.read_units, &prices.stream_reads, &prices.sqs, &prices.sns] {
        let read = match (&price.read_at, &price.read_on) {
            (Some(at), Some(on)) => format!("{on}, from a secondary source: {at}"),
            _ => "commonly known; not verified".to_owned(),
        };
        table.row([price.what.clone(), number(price.usd_per_million), price.list.clone(), read]);
    }
    table
}
