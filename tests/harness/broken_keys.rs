//! Mutations of the keys of Redis: another type, absence, members, fields, scores, sizes, expiries.

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, Value};

use crate::dice::Dice;

/// Length of a huge value, bytes.
const HUGE: usize = 200_000;
/// Kinds of keys that a driver or a dispatch may have.
const OF_DRIVERS: [&str; 4] = ["drv", "hold", "rest", "acc"];
const OF_DISPATCHES: [&str; 2] = ["route", "chunks"];
/// Members and fields that no worker writes.
const MEMBERS: [&str; 4] = ["driver#ghost", "driver#", "rubbish", ""];

/// Time to live of a key that is to expire, ms.
pub const EXPIRES_IN_MS: i64 = 300;

/// A mutation that was made.
#[derive(Debug, Clone)]
pub struct BrokenKey {
    pub key: String,
    /// The command, shortened.
    pub command: String,
}

/// Breaks a random key of a city. One in six is a key of `owner`, a driver or dispatch, that may not exist.
///
/// # Errors
///
/// If Redis cannot be asked. A command that does not fit the key is refused, and counts as made.
pub async fn break_a_key(
    redis: &mut MultiplexedConnection,
    dice: &mut Dice,
    city: &str,
    owner: &str,
) -> RedisResult<BrokenKey> {
    let keys: Vec<String> = ask(redis, &["KEYS", &format!("*:{{{city}}}*")]).await?;
    let key = if keys.is_empty() || dice.one_in(6) {
        let kinds = if owner.starts_with("dispatch#") { &OF_DISPATCHES[..] } else { &OF_DRIVERS };
        format!("{}:{{{city}}}:{owner}", dice.pick(kinds))
    } else {
        dice.pick(&keys)
    };
    let kind: String = ask(redis, &["TYPE", &key]).await?;
    let words = words_against(redis, dice, &key, &kind).await?;
    let _: RedisResult<Value> = redis::cmd(&words[0]).arg(&words[1..]).query_async(redis).await;
    let command = words.iter().map(|word| word.chars().take(40).collect::<String>()).collect::<Vec<_>>().join(" ");
    Ok(BrokenKey { key, command })
}

/// A command that breaks a key of this type.
async fn words_against(
    redis: &mut MultiplexedConnection,
    dice: &mut Dice,
    key: &str,
    kind: &str,
) -> RedisResult<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (huge, far) = ("9".repeat(HUGE), "9999999999999999");
    let values = ["", "x", "-1", "1e400", "NaN", far, "ACTIVE", "INACTIVE", "9 9 x x 1 -", &huge];
    let value = dice.pick(&values);
    if dice.one_in(5) {
        // Another type in its place.
        let _: Value = ask(redis, &["DEL", key]).await?;
        return Ok(match dice.pick(&["RPUSH", "SADD", "HSET", "ZADD", "XADD"]) {
            "HSET" => words(&["HSET", key, "field", value]),
            "ZADD" => words(&["ZADD", key, "1", value]),
            "XADD" => words(&["XADD", key, "*", "x", value]),
            command => words(&[command, key, value]),
        });
    }
    if kind == "none" || dice.one_in(3) {
        return Ok(match dice.below(5) {
            0 => words(&["DEL", key]),
            1 => words(&["SET", key, value]),
            2 => words(&["SET", key, "x", "PX", "600000"]),
            3 => words(&["PERSIST", key]),
            _ => words(&["PEXPIRE", key, &EXPIRES_IN_MS.to_string()]),
        });
    }
    let (member, score) = (dice.pick(&MEMBERS), dice.pick(&["inf", "-inf", "-1", "1e300", "0", far]));
    Ok(match kind {
        "hash" => {
            let mut fields: Vec<String> = ask(redis, &["HKEYS", key]).await?;
            fields.push(member.to_owned());
            let field = dice.pick(&fields);
            if dice.one_in(3) { words(&["HDEL", key, &field]) } else { words(&["HSET", key, &field, value]) }
        }
        "zset" => {
            let known: Vec<String> = ask(redis, &["ZRANGE", key, "0", "50"]).await?;
            match (dice.below(4), known.is_empty()) {
                (0, false) => words(&["ZREM", key, &dice.pick(&known)]),
                (1, false) => words(&["ZADD", key, score, &dice.pick(&known)]),
                (2, _) => {
                    let many: Vec<String> =
                        (0..2_000).flat_map(|n| [score.to_owned(), format!("driver#many{n}")]).collect();
                    [words(&["ZADD", key]), many].concat()
                }
                _ => words(&["ZADD", key, score, member]),
            }
        }
        "stream" => {
            let entries = ["", "x", ";;", "driver#ghost,37.5,127", "driver#ghost,37.5,127,1", ",,,", value];
            let (kind, entry) = (dice.pick(&["p", "d", "x", ""]), dice.pick(&entries));
            words(&["XADD", key, "*", kind, entry])
        }
        "list" => words(&[dice.pick(&["LPUSH", "RPUSH"]), key, value]),
        _ => words(&["SET", key, value, "PX", "600000"]),
    })
}

async fn ask<T: FromRedisValue>(redis: &mut MultiplexedConnection, words: &[&str]) -> RedisResult<T> {
    redis::cmd(words[0]).arg(&words[1..]).query_async(redis).await
}
