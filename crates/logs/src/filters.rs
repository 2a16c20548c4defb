//! Subscription filters of groups: the handlers of the group `filters`.

use async_trait::async_trait;
use hearth_observe::Subscription;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_logs::FiltersApi;
use hearth_wire_logs::errors::{
    invalid_parameter_exception as invalid, limit_exceeded_exception, resource_not_found_exception as not_found,
};
use hearth_wire_logs::types::*;

use crate::cloudwatch::{CloudWatch, failed, no_group};
use crate::coverage::COVERAGE;
use crate::pattern::Pattern;
use crate::{names, page};

/// Subscription filters of one group, as with AWS.
const SUBSCRIPTIONS_MAX: usize = 2;
/// Filters of a page, unless the client says how many.
const USUAL: usize = 50;

#[async_trait]
impl FiltersApi for CloudWatch {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn put_subscription_filter(&self, cx: &Context, input: PutSubscriptionFilterRequest) -> Result<(), Error> {
        let refused = [
            (input.apply_on_transformed_logs == Some(true), "applyOnTransformedLogs"),
            (input.field_selection_criteria.is_some(), "fieldSelectionCriteria"),
            (input.emit_system_fields.is_some(), "emitSystemFields"),
        ];
        if let Some((_, name)) = refused.iter().find(|(asked, _)| *asked) {
            return Err(Error::not_supported(format_args!("logs:PutSubscriptionFilter with {name}")));
        }
        let pattern = input.filter_pattern.unwrap_or_default();
        Pattern::parse(&pattern).map_err(|error| invalid(error.0))?;
        let destination = input.destination_arn.unwrap_or_default();
        let service = destination.split(':').nth(2).unwrap_or_default();
        if matches!(service, "kinesis" | "firehose" | "logs") {
            return Err(Error::not_supported(format_args!("subscriptions of {service}")));
        }
        let name = input.log_group_name.unwrap_or_default();
        if self.watch.destinations.function(&names::group(cx, &name), &destination).is_none() {
            return Err(invalid(
                "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your \
                 function.",
            ));
        }
        let subscription = Subscription {
            name: input.filter_name.unwrap_or_default(),
            pattern,
            destination,
            distribution: input.distribution,
            created: self.now(),
        };
        self.set(cx, &name, move |settings| {
            let all = &mut settings.subscriptions;
            match all.iter().position(|known| known.name == subscription.name) {
                Some(at) => all[at] = Subscription { created: all[at].created, ..subscription },
                None if all.len() >= SUBSCRIPTIONS_MAX => {
                    return Err(limit_exceeded_exception("Resource limit exceeded."));
                }
                None => all.push(subscription),
            }
            all.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(())
        })
        .await?;
        self.watch.changed().await;
        Ok(())
    }

    async fn delete_subscription_filter(
        &self,
        cx: &Context,
        input: DeleteSubscriptionFilterRequest,
    ) -> Result<(), Error> {
        let filter = input.filter_name.unwrap_or_default();
        self.set(cx, &input.log_group_name.unwrap_or_default(), move |settings| {
            let before = settings.subscriptions.len();
            settings.subscriptions.retain(|known| known.name != filter);
            if settings.subscriptions.len() == before {
                return Err(not_found("The specified subscription filter does not exist."));
            }
            Ok(())
        })
        .await?;
        self.watch.changed().await;
        Ok(())
    }

    async fn describe_subscription_filters(
        &self,
        cx: &Context,
        input: DescribeSubscriptionFiltersRequest,
    ) -> Result<DescribeSubscriptionFiltersResponse, Error> {
        let after: Option<String> = input.next_token.as_deref().map(page::mark).transpose()?;
        let name = input.log_group_name.unwrap_or_default();
        let group = self.logs.group(&names::group(cx, &name)).await.map_err(failed)?.ok_or_else(no_group)?;
        let prefix = input.filter_name_prefix.unwrap_or_default();
        let wanted = |known: &Subscription| {
            known.name.starts_with(&prefix) && after.as_ref().is_none_or(|after| known.name > *after)
        };
        let size = page::size(input.limit, USUAL);
        let all = group.settings.subscriptions;
        let found: Vec<Subscription> = all.into_iter().filter(wanted).take(size + 1).collect();
        let next_token = if found.len() > size { Some(page::token(&found[size - 1].name)) } else { None };
        let described = |known: Subscription| SubscriptionFilter {
            filter_name: Some(known.name),
            log_group_name: Some(name.clone()),
            filter_pattern: Some(known.pattern),
            destination_arn: Some(known.destination),
            distribution: Some(known.distribution.unwrap_or_else(|| "ByLogStream".to_owned())),
            creation_time: Some(known.created),
            ..SubscriptionFilter::default()
        };
        let filters = found.into_iter().take(size).map(described).collect();
        Ok(DescribeSubscriptionFiltersResponse { subscription_filters: Some(filters), next_token })
    }
}
