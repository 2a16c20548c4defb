//! Files of a former version, which had a row for each event: their events are appended anew, and they are gone then. What was
//! appended is deleted there only once it is written here, so that nothing is lost by whatever comes between.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_model::{AccountId, LogEvent, LogGroup, LogStreamName, Region};
use rusqlite::{Connection, params};

use super::queue::Queue;
use super::{LogsError, failed, time};

/// Events that are taken over at once.
const AT_ONCE: i64 = 1000;
/// Pause when there is no room in the queue.
const PAUSE: Duration = Duration::from_millis(50);

/// Blocking; ends early when the queue is closed.
pub(super) fn take_over(folder: &Path, queue: &Queue) -> Result<(), LogsError> {
    for file in files(folder)? {
        tracing::info!(file = %file.display(), "events of a former version are taken over");
        let connection = Connection::open(&file).map_err(failed)?;
        if connection.table_exists(None, "events").map_err(failed)? {
            while take_some(&connection, queue)? {}
        }
        drop(connection);
        for suffix in ["-wal", "-shm", ""] {
            let mut path = file.clone().into_os_string();
            path.push(suffix);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether there may be more.
fn take_some(connection: &Connection, queue: &Queue) -> Result<bool, LogsError> {
    let mut select = connection
        .prepare_cached("SELECT number, grp, at, stream, message FROM events ORDER BY number LIMIT ?")
        .map_err(failed)?;
    let mut rows = select.query([AT_ONCE]).map_err(failed)?;
    let mut last = None;
    while let Some(row) = rows.next().map_err(failed)? {
        let (number, key, micros): (i64, String, i64) =
            (|| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))().map_err(|e: rusqlite::Error| failed(e))?;
        let (stream, message): (String, Vec<u8>) =
            (|| Ok((row.get(3)?, row.get(4)?)))().map_err(|e: rusqlite::Error| failed(e))?;
        last = Some(number);
        let Some(group) = group(&key) else { continue };
        let event = LogEvent { at: time(micros / 1000), message: message.into() };
        while !queue.has_room() {
            if queue.is_closed() {
                return Err(failed("it is closed"));
            }
            std::thread::sleep(PAUSE);
        }
        queue.push(&group, &LogStreamName::named(&stream), vec![event]);
    }
    let Some(last) = last else { return Ok(false) };
    let written = queue.flush().and_then(|flushed| flushed.blocking_recv().ok());
    if written.is_none() {
        return Err(failed("what was taken over could not be written"));
    }
    connection.execute("DELETE FROM events WHERE number <= ?", params![last]).map_err(failed)?;
    Ok(true)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, LogsError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_day = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| stem.parse::<jiff::civil::Date>().is_ok());
        if is_day && path.extension().is_some_and(|extension| extension == "sqlite") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `ACCOUNT/REGIONNAME`, as it was: names of functions' groups begin with a slash.
fn group(key: &str) -> Option<LogGroup> {
    let (account, rest) = key.split_once('/')?;
    let region = |end: usize| Region::parse(rest.get(..end)?).map(|region| (region, &rest[end..]));
    // A name that begins with a digit would belong to the region: regions end with one digit.
    let end = rest.find(|c: char| c.is_ascii_digit())? + 1;
    let (region, name) = region(end)?;
    Some(LogGroup { account: AccountId::parse(account)?, region, name: name.into() })
}

#[cfg(test)]
mod tests {
    use super::super::tests::group as named;
    use super::*;

    #[test]
    fn groups_are_read_from_their_keys() {
        assert_eq!(group("000000000000/us-east-1/aws/lambda/f"), Some(named("/aws/lambda/f")));
        assert_eq!(group("000000000000/us-east-1own"), Some(named("own")));
        assert_eq!(group("x"), None);
    }
}
