//! Responses that go to their caller as they come.

use hearth_model::{BodyError, ErrorType, STREAM_MAX};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{Door, Streamed};
use crate::posted;
use crate::protocol::Answer;
use crate::reply::{self, Reply};
use crate::stream::StreamWriter;

/// Passes a body on. A caller that goes away does not interrupt the function: what it still says is read and thrown
/// away, as on AWS.
pub(super) async fn stream(door: &Door, id: &str, mut body: Incoming, writer: &StreamWriter) -> Reply {
    let mut streamed = Streamed { bytes: 0, error: None, unread: false };
    let told = loop {
        match body.frame().await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let taken = data.len().min(STREAM_MAX - streamed.bytes);
                    streamed.unread = streamed.unread || writer.write(&data[..taken]).await.is_err();
                    streamed.bytes += taken;
                    if taken < data.len() {
                        streamed.error = Some(of_answer(posted::too_large(STREAM_MAX)));
                        break reply::too_large(STREAM_MAX);
                    }
                }
                Err(frame) => {
                    let error = frame.trailers_ref().and_then(posted::body_error);
                    streamed.error = error.map(|error| {
                        let reported = ErrorType::posted(&error.error_type);
                        (error, reported)
                    });
                }
            },
            Some(Err(_)) => {
                streamed.error = Some(of_answer(posted::truncated()));
                break reply::truncated();
            }
            None => break reply::accepted(),
        }
    };
    let told = door.runtime.streamed(id, streamed).map_or_else(reply::refused, |()| told);
    door.end(body, told).await
}

fn of_answer(answer: Answer) -> (BodyError, ErrorType) {
    let reported = answer.error.unwrap_or(ErrorType::RUNTIME_UNKNOWN);
    (BodyError { error_type: reported.as_str().to_owned(), details: answer.body }, reported)
}
