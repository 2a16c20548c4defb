//! What a target is given: the schedule's input with its context attributes filled in, or AWS's notification.

use serde_json::json;

use crate::ids;
use crate::record::{Firing, split};
use crate::timetable::written;

/// One try to reach a target.
pub struct Attempt<'a> {
    /// Of the occurrence's message.
    pub id: &'a str,
    pub firing: &'a Firing,
    /// Beginning with 1.
    pub number: u32,
}

impl Attempt<'_> {
    /// `<aws.scheduler.execution-id>`: no two attempts share one.
    pub fn execution_id(&self) -> String {
        ids::execution(self.id, self.number)
    }

    pub fn payload(&self) -> String {
        match &self.firing.target.input {
            Some(input) => self.filled(input),
            None => self.notification(),
        }
    }

    /// Context attributes are put in as text, wherever they stand (User Guide, "Context attributes").
    fn filled(&self, input: &str) -> String {
        if !input.contains("<aws.scheduler.") {
            return input.to_owned();
        }
        input
            .replace("<aws.scheduler.schedule-arn>", &self.firing.place().arn())
            .replace("<aws.scheduler.scheduled-time>", &written(self.firing.scheduled))
            .replace("<aws.scheduler.execution-id>", &self.execution_id())
            .replace("<aws.scheduler.attempt-number>", &self.number.to_string())
    }

    /// As functions have recorded it: `detail` is a text.
    fn notification(&self) -> String {
        let (account, region) = split(&self.firing.partition);
        json!({
            "version": "0",
            "id": ids::request(self.id),
            "detail-type": "Scheduled Event",
            "source": "aws.scheduler",
            "account": account,
            "time": written(self.firing.scheduled),
            "region": region,
            "resources": [self.firing.place().arn()],
            "detail": "{}",
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Target;

    fn firing(input: Option<&str>) -> Firing {
        let target = Target {
            arn: "arn:aws:lambda:us-east-1:000000000000:function:f".to_owned(),
            role: "r".to_owned(),
            input: input.map(str::to_owned),
            dead_letters: None,
            age_max_s: 60,
            retries: 0,
            message_group: None,
        };
        let (group, name) = ("g".to_owned(), "n".to_owned());
        let partition = "000000000000/us-east-1".to_owned();
        Firing { partition, group, name, target, scheduled: 1_652_490_720_000, late: None }
    }

    #[test]
    fn context_attributes_are_filled_in() {
        let input = r#"{"a":"<aws.scheduler.schedule-arn>","t":"<aws.scheduler.scheduled-time>","n":"<aws.scheduler.attempt-number>/<aws.scheduler.attempt-number>","x":"<aws.scheduler.other>"}"#;
        let firing = firing(Some(input));
        let attempt = Attempt { id: "m", firing: &firing, number: 3 };
        let expected = r#"{"a":"arn:aws:scheduler:us-east-1:000000000000:schedule/g/n","t":"2022-05-14T01:12:00Z","n":"3/3","x":"<aws.scheduler.other>"}"#;
        assert_eq!(attempt.payload(), expected);
        let id = attempt.execution_id();
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(Attempt { number: 4, ..attempt }.execution_id(), id);
    }

    #[test]
    fn without_an_input_there_is_a_notification() {
        let firing = firing(None);
        let text = Attempt { id: "m", firing: &firing, number: 1 }.payload();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["source"], &value["detail"]), (&json!("aws.scheduler"), &json!("{}")));
        assert_eq!(value["resources"][0], "arn:aws:scheduler:us-east-1:000000000000:schedule/g/n");
        assert_eq!((&value["time"], &value["account"]), (&json!("2022-05-14T01:12:00Z"), &json!("000000000000")));
    }
}
