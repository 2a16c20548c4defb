//! Metric filters of groups: the handlers of the group `metric_filters`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_observe::{Group, MetricFilter as Kept};
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::MetricFiltersApi;
use hearth_wire_logs::errors::{
    invalid_parameter_exception as invalid, limit_exceeded_exception, resource_not_found_exception as not_found,
};
use hearth_wire_logs::types::*;

use crate::cloudwatch::{CloudWatch, failed, no_group};
use crate::coverage::COVERAGE;
use crate::metrics::{Meter, Metrics};
use crate::pattern::Pattern;
use crate::{names, page};

/// Metric filters of one group, as with AWS.
const FILTERS_MAX: usize = 100;
/// Filters of a page, unless the client says how many.
const USUAL: usize = 50;
/// Dimensions of one filter, as with AWS.
const DIMENSIONS_MAX: usize = 3;

#[async_trait]
impl MetricFiltersApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn put_metric_filter(&self, cx: &Context, input: PutMetricFilterRequest) -> Result<(), Error> {
        let refused = [
            (input.apply_on_transformed_logs == Some(true), "applyOnTransformedLogs"),
            (input.field_selection_criteria.is_some(), "fieldSelectionCriteria"),
            (input.emit_system_field_dimensions.is_some(), "emitSystemFieldDimensions"),
        ];
        if let Some((_, name)) = refused.iter().find(|(asked, _)| *asked) {
            return Err(Error::not_supported(format_args!("logs:PutMetricFilter with {name}")));
        }
        let name = input.log_group_name.unwrap_or_default();
        // Exactly one, by the model.
        let transformation = input.metric_transformations.into_iter().flatten().next().unwrap_or_default();
        let filter = Kept {
            name: input.filter_name.unwrap_or_default(),
            pattern: input.filter_pattern.unwrap_or_default(),
            namespace: transformation.metric_namespace.unwrap_or_default(),
            metric: transformation.metric_name.unwrap_or_default(),
            value: transformation.metric_value.unwrap_or_default(),
            default: transformation.default_value,
            dimensions: transformation.dimensions.unwrap_or_default(),
            unit: transformation.unit,
            created: self.now(),
        };
        if filter.dimensions.len() > DIMENSIONS_MAX {
            return Err(invalid(format!("A metric filter can have at most {DIMENSIONS_MAX} dimensions.")));
        }
        // Whether one can be made of it.
        let meter = Meter::new(&names::group(cx, &name), filter, Arc::<Metrics>::default());
        let filter = meter.map_err(|error| invalid(error.0))?.filter;
        self.set(cx, &name, move |settings| {
            let all = &mut settings.metric_filters;
            match all.iter().position(|known| known.name == filter.name) {
                Some(at) => all[at] = Kept { created: all[at].created, ..filter },
                None if all.len() >= FILTERS_MAX => return Err(limit_exceeded_exception("Resource limit exceeded.")),
                None => all.push(filter),
            }
            all.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(())
        })
        .await?;
        self.watch.changed().await;
        Ok(())
    }

    async fn delete_metric_filter(&self, cx: &Context, input: DeleteMetricFilterRequest) -> Result<(), Error> {
        let filter = input.filter_name.unwrap_or_default();
        self.set(cx, &input.log_group_name.unwrap_or_default(), move |settings| {
            let before = settings.metric_filters.len();
            settings.metric_filters.retain(|known| known.name != filter);
            if settings.metric_filters.len() == before {
                return Err(not_found("The specified metric filter does not exist."));
            }
            Ok(())
        })
        .await?;
        self.watch.changed().await;
        Ok(())
    }

    async fn describe_metric_filters(
        &self,
        cx: &Context,
        input: DescribeMetricFiltersRequest,
    ) -> Result<DescribeMetricFiltersResponse, Error> {
        if input.metric_name.is_some() != input.metric_namespace.is_some() {
            return Err(invalid("metricName and metricNamespace can be given together only."));
        }
        let after: Option<(String, String)> = input.next_token.as_deref().map(page::mark).transpose()?;
        let groups = match &input.log_group_name {
            Some(name) => {
                vec![self.logs.group(&names::group(cx, name)).await.map_err(failed)?.ok_or_else(no_group)?]
            }
            None => {
                let mut groups = self.logs.filtered().await.map_err(failed)?;
                let owner = names::owner(cx);
                groups.retain(|group| (&group.name.account, &group.name.region) == (&owner.0, &owner.1));
                groups.sort_by(|one, other| one.name.cmp(&other.name));
                groups
            }
        };
        let prefix = input.filter_name_prefix.unwrap_or_default();
        let is = |asked: &Option<String>, text: &str| asked.as_ref().is_none_or(|asked| asked == text);
        let wanted = |group: &Group, known: &Kept| {
            let beyond = |(group_name, name): &(String, String)| {
                (&*group.name.name, &*known.name) > (group_name.as_str(), name.as_str())
            };
            known.name.starts_with(&prefix)
                && is(&input.metric_name, &known.metric)
                && is(&input.metric_namespace, &known.namespace)
                && after.as_ref().is_none_or(beyond)
        };
        let of = |group: Group| {
            let all: Vec<Kept> =
                group.settings.metric_filters.iter().filter(|known| wanted(&group, known)).cloned().collect();
            all.into_iter().map(move |known| (group.name.name.to_string(), known))
        };
        let size = page::size(input.limit, USUAL);
        let mut found: Vec<(String, Kept)> = groups.into_iter().flat_map(of).take(size + 1).collect();
        let more = found.len() > size;
        found.truncate(size);
        let next_token = found.last().filter(|_| more).map(|(group, known)| page::token(&(group, &known.name)));
        let filters = found.into_iter().map(|(group, known)| described(group, known)).collect();
        Ok(DescribeMetricFiltersResponse { metric_filters: Some(filters), next_token })
    }

    async fn test_metric_filter(
        &self,
        _cx: &Context,
        input: TestMetricFilterRequest,
    ) -> Result<TestMetricFilterResponse, Error> {
        let pattern = Pattern::parse(&input.filter_pattern.unwrap_or_default()).map_err(|error| invalid(error.0))?;
        let messages = input.log_event_messages.unwrap_or_default();
        let matches = (1_i64..).zip(messages).filter(|(_, message)| pattern.is_match(message.as_bytes()));
        let found = matches.map(|(number, message)| MetricFilterMatchRecord {
            event_number: Some(number),
            extracted_values: Some(pattern.extract(message.as_bytes())),
            event_message: Some(message),
        });
        Ok(TestMetricFilterResponse { matches: Some(found.collect()) })
    }
}

fn described(group: String, known: Kept) -> MetricFilter {
    let some = |dimensions: BTreeMap<String, String>| (!dimensions.is_empty()).then_some(dimensions);
    let transformation = MetricTransformation {
        metric_name: Some(known.metric),
        metric_namespace: Some(known.namespace),
        metric_value: Some(known.value),
        default_value: known.default,
        dimensions: some(known.dimensions),
        unit: known.unit,
    };
    MetricFilter {
        filter_name: Some(known.name),
        filter_pattern: Some(known.pattern),
        metric_transformations: Some(vec![transformation]),
        creation_time: Some(known.created),
        log_group_name: Some(group),
        ..MetricFilter::default()
    }
}
