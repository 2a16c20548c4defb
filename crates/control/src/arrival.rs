//! The code of a function on its way in: looked into, and not kept before its record is sure to come.

use std::sync::Arc;

use hearth_model::{Checked, Image};
use hearth_wire::Error;
use hearth_wire_lambda::errors::invalid_parameter_value_exception as invalid;

use crate::access::{Incoming, Source, refused};
use crate::control::Control;
use crate::record::{Content, Definition, Owner, StoredAt};
use crate::state::account::Promise;

/// Code that can run, as far as that can be told before it is fetched.
pub(crate) enum Arrival {
    Zip { checked: Checked, reference: Option<Box<StoredAt>>, kms_key: Option<String>, _room: Promise },
    Image(Arc<Image>),
}

impl Control {
    /// Looks into the code that a request names, which must be of the kind that the definition has. `copies`: how often
    /// it will count.
    pub(crate) async fn arrive(
        &self,
        owner: &Owner,
        definition: &Definition,
        source: Source,
        code_signing: Option<&str>,
        copies: u64,
    ) -> Result<Arrival, Error> {
        match &definition.content {
            Content::Image(_) => {
                let uri = source.only_image()?;
                let image = self.image(uri, definition.architecture).await?;
                Ok(Arrival::Image(image))
            }
            Content::Zip(_) => {
                let kms_key = source.kms_key.clone();
                let incoming = self.package(owner, source).await?;
                self.verify_signature(owner, code_signing)?;
                let _room = self.room(owner, incoming.stored_size() * copies)?;
                let Incoming { package, reference, .. } = incoming;
                let checked = self.check(package).await?;
                Ok(Arrival::Zip { checked, reference, kms_key, _room })
            }
        }
    }
}

impl Arrival {
    /// Keeps it. The caller sees to it that it is not removed before its record is written.
    pub async fn keep(&mut self) -> Result<(), Error> {
        match self {
            Arrival::Zip { checked, .. } => (&mut checked.keep).await.map_err(refused),
            Arrival::Image(_) => Ok(()),
        }
    }

    /// What the definition runs from now on.
    pub fn define(&self, definition: &mut Definition) {
        match (self, &mut definition.content) {
            (Arrival::Zip { checked, reference, kms_key, .. }, Content::Zip(zip)) => {
                if let Some(key) = kms_key {
                    zip.source_kms_key_arn = Some(key.clone()).filter(|key| !key.is_empty());
                }
                zip.reference.clone_from(reference);
                zip.code = checked.admitted.code;
                zip.code_size = checked.admitted.zipped;
                zip.unzipped = checked.admitted.unzipped;
            }
            (Arrival::Image(image), Content::Image(content)) => content.image = image.clone(),
            // The kind of a function's code never changes.
            (Arrival::Zip { .. }, Content::Image(_)) | (Arrival::Image(_), Content::Zip(_)) => {}
        }
    }
}

impl Source {
    fn only_image(self) -> Result<String, Error> {
        let image = self
            .image
            .ok_or_else(|| invalid("Please provide ImageUri when updating a function with packageType Image."))?;
        if self.zip.is_some() || self.bucket.is_some() || self.key.is_some() || self.kms_key.is_some() {
            return Err(invalid("Please do not provide other FunctionCode parameters when providing an ImageUri."));
        }
        Ok(image)
    }
}
