//! The weight of a row of a source, from its event and its age.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::InteractionsBuilder;
use runtime::error::{Error, Result};

/// Used in training and for histories that are read later, so that an unchanged history is identical to the bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// The weight of each event, below 0 for negative feedback; other events have weight 0.
    event_weights: Option<BTreeMap<String, f64>>,
    /// The half-life of a row's weight in microseconds.
    half_life: Option<i64>,
    /// The time of the newest row in training, which ages are relative to.
    newest: Option<i64>,
}

impl Signals {
    /// `event_weights` is a JSON object of numbers; `half_life` is in microseconds.
    pub fn new(event_weights: Option<&Value>, half_life: Option<i64>) -> Result<Self> {
        let hint = "Pass an object of numbers, as in '{\"view\": 1, \"cart\": 3, \"purchase\": 5, \"return\": -5}'.";
        let wrong = |value: &Value| Error::argument("event_weights", value, hint);
        let event_weights = event_weights.map(|given| {
            let weights = given.as_object().filter(|map| !map.is_empty()).ok_or_else(|| wrong(given))?;
            let pair = |(event, weight): (&String, &Value)| {
                let number = weight.as_f64().filter(|w| (*w as f32).is_finite());
                Ok((event.clone(), number.ok_or_else(|| wrong(given))?))
            };
            weights.iter().map(pair).collect::<Result<BTreeMap<_, _>>>()
        });
        if let Some(half_life) = half_life.filter(|h| *h <= 0) {
            let seconds = half_life as f64 / 1e6;
            return Err(Error::argument(
                "half_life",
                format!("{seconds} s"),
                "The value must be above 0, as in '90 days'.",
            ));
        }
        Ok(Self { event_weights: event_weights.transpose()?, half_life, newest: None })
    }

    /// Whether rows need an event.
    pub fn needs_event(&self) -> bool {
        self.event_weights.is_some()
    }

    /// Whether rows need a time.
    pub fn needs_time(&self) -> bool {
        self.half_life.is_some()
    }

    /// Checks the time of row number `row` of a source. With an infinite time, all other rows would be infinitely old.
    pub fn time(&self, time: i64, row: usize) -> Result<i64> {
        if self.needs_time() && time == i64::MAX {
            return Err(Error::InfiniteTime { column: "ts", row: Some(row) });
        }
        Ok(time)
    }

    /// A row's weight by its event.
    pub fn weight(&self, weight: f64, event: Option<&str>) -> f64 {
        match &self.event_weights {
            None => weight,
            Some(weights) => weight * event.and_then(|e| weights.get(e)).copied().unwrap_or(0.0),
        }
    }

    /// The weight after decay. A row without a time (`i64::MIN`) has weight 0; a row newer than the training has its full weight.
    pub fn decayed(&self, weight: f32, time: i64) -> f32 {
        let (Some(half_life), Some(newest)) = (self.half_life, self.newest) else { return weight };
        if time == i64::MIN {
            return 0.0;
        }
        let age = newest.saturating_sub(time).max(0) as f64;
        (f64::from(weight) * (-age / half_life as f64).exp2()) as f32
    }

    /// Applies the decay to every row of `builder`, relative to the newest one.
    pub fn apply(&mut self, builder: &mut InteractionsBuilder) {
        if self.half_life.is_some() {
            self.newest = builder.newest();
            builder.reweigh(|weight, time| self.decayed(weight, time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;
    use serde_json::json;

    #[test]
    fn events_count_what_they_are_said_to_and_others_nothing() {
        let signals = Signals::new(Some(&json!({"view": 1, "退货": -2.5})), None).unwrap();
        assert_eq!(signals.weight(2.0, Some("view")), 2.0);
        assert_eq!(signals.weight(2.0, Some("退货")), -5.0);
        assert_eq!((signals.weight(2.0, Some("other")), signals.weight(2.0, None)), (0.0, 0.0));
        assert_eq!(Signals::default().weight(2.0, Some("other")), 2.0);
        for wrong in [json!([]), json!({}), json!({"view": "much"}), json!({"view": 1e300})] {
            assert!(Signals::new(Some(&wrong), None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_without_end_is_refused_where_ages_count() {
        let signals = Signals::new(None, Some(10)).unwrap();
        let refused = signals.time(i64::MAX, 7).unwrap_err();
        assert_eq!(refused.to_string(), "column \"ts\" is infinite in row 7 of the source");
        assert_eq!(refused.sqlstate(), "22008");
        assert_eq!(signals.time(i64::MIN, 7).unwrap(), i64::MIN);
        assert_eq!(Signals::default().time(i64::MAX, 7).unwrap(), i64::MAX);
    }

    #[test]
    fn a_row_counts_half_after_each_half_life() {
        let mut signals = Signals::new(None, Some(10)).unwrap();
        let mut builder = InteractionsBuilder::new();
        for (item, time) in [(1, Some(100)), (2, Some(90)), (3, Some(70)), (4, None)] {
            builder.push(Id::Int(0), Id::Int(item), 4.0, time).unwrap();
        }
        signals.apply(&mut builder);
        let interactions = builder.finish().unwrap();
        assert_eq!(interactions.by_user.row(0), (&[0, 1, 2][..], &[4.0, 2.0, 0.5][..]));
        assert_eq!(interactions.items(), 4);
        assert_eq!(signals.decayed(4.0, 70), 0.5);
        assert_eq!(signals.decayed(4.0, 1000), 4.0);
        let kept: Signals = serde_json::from_str(&serde_json::to_string(&signals).unwrap()).unwrap();
        assert_eq!(kept, signals);
        assert!(Signals::new(None, Some(0)).is_err());
    }
}
