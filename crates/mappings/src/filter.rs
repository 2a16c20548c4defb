//! Which records are wanted: filter criteria, as they are asked for and as they are kept.

use std::sync::Arc;

use hearth_patterns::Pattern;
use hearth_wire::Error;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;
use hearth_wire_lambda::types::{Filter, FilterCriteria};

/// AWS's quota, as far as it can be raised.
const FILTERS_MAX: usize = 10;

/// Texts of patterns that a mapping is to have. No filters at all is what `{}` asks for.
pub fn asked(criteria: FilterCriteria) -> Result<Vec<String>, Error> {
    let filters = criteria.filters.unwrap_or_default();
    if filters.len() > FILTERS_MAX {
        return Err(invalid(format!(
            "Exceeded maximum number of filters allowed per event source mapping: {FILTERS_MAX}."
        )));
    }
    let texts: Vec<String> = filters.into_iter().map(|filter| filter.pattern.unwrap_or_default()).collect();
    match texts.iter().all(|text| Pattern::compile(text).is_ok()) {
        true => Ok(texts),
        false => Err(invalid("Invalid filter pattern definition.")),
    }
}

/// What is asked by filters that were asked for.
pub fn compiled(texts: &[String]) -> Arc<[Pattern]> {
    texts.iter().filter_map(|text| Pattern::compile(text).ok()).collect()
}

pub fn shown(texts: &[String]) -> Option<FilterCriteria> {
    let filters: Vec<Filter> = texts.iter().map(|text| Filter { pattern: Some(text.clone()) }).collect();
    (!filters.is_empty()).then_some(FilterCriteria { filters: Some(filters) })
}
