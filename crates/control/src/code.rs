//! The handler of the group `code`.

use async_trait::async_trait;
use hearth_wire::{Context, Coverage, Error};
use hearth_wire_lambda::CodeApi;
use hearth_wire_lambda::types::*;

use crate::access::{Source, tell_of_kept};
use crate::control::Control;
use crate::coverage::COVERAGE;
use crate::record::{Definition, Readiness};
use crate::{check, names, present, versions};

#[async_trait]
impl CodeApi for Control {
    fn coverage(&self) -> &'static [Coverage] {
        COVERAGE
    }

    async fn update_function_code(
        &self,
        cx: &Context,
        input: UpdateFunctionCodeRequest,
    ) -> Result<FunctionConfiguration, Error> {
        check::refuse("UpdateFunctionCode", &[(input.publish_to.is_some(), "PublishTo")])?;
        let arn = self.asked(cx, input.function_name.as_deref(), None, "UpdateFunctionCode")?;
        let arn = names::of_latest(&arn)?;
        // Before the package is looked into, and again when its turn comes.
        let function = self.to_update(&arn, input.revision_id.as_deref())?;
        let source = Source {
            zip: input.zip_file,
            bucket: input.s3_bucket,
            key: input.s3_key,
            version: input.s3_object_version,
            mode: input.s3_object_storage_mode,
            image: input.image_uri,
            kms_key: input.source_kms_key_arn,
        };
        let (dry_run, publish) = (input.dry_run == Some(true), input.publish == Some(true));
        let architecture = check::architecture(input.architectures.as_ref());
        let mut asked = Definition::clone(&function.record.intent);
        asked.architecture = architecture.unwrap_or(asked.architecture);
        let (signing, copies) = (function.record.code_signing.as_deref(), if publish { 2 } else { 1 });
        let mut arrival = self.arrive(&function.owner, &asked, source, signing, copies).await?;
        let _in_use = self.inner.packages_in_use.read().await;
        if !dry_run {
            arrival.keep().await?;
        }
        let _turn = self.turn(&arn).await;
        let function = self.to_update(&arn, input.revision_id.as_deref())?;
        let mut definition = Definition::clone(&function.record.intent);
        definition.architecture = architecture.unwrap_or(definition.architecture);
        arrival.define(&mut definition);
        self.within_unzipped(&definition)?;
        tell_of_kept(cx, &arn.name, &definition);
        let mut changes = self.updated(&function, definition);
        if dry_run {
            let root = changes.root.clone().unwrap_or_else(|| (*function.record).clone());
            let mut answer = present::latest(self.runtimes(), &function.after(&changes, root, function.change), None);
            answer.revision_id = Some(function.record.revision_id.clone());
            answer.last_modified = Some(function.record.last_modified.clone());
            let status = present::latest(self.runtimes(), &function, None);
            answer.last_update_status = status.last_update_status;
            answer.last_update_status_reason = status.last_update_status_reason;
            answer.last_update_status_reason_code = status.last_update_status_reason_code;
            return Ok(answer);
        }
        let published = publish && versions::is_news(&function, &changes);
        if published {
            versions::publish(self.runtimes(), &mut changes, None, Readiness::Pending);
        }
        let function = self.commit(&function, changes).await?;
        self.bring_about(&function).await;
        Ok(match function.newest().filter(|_| publish) {
            Some((number, version)) => {
                present::published(self.runtimes(), &function, number, version, Some(&number.to_string()))
            }
            None => present::latest(self.runtimes(), &function, None),
        })
    }
}
