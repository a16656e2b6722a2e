/** What version 3 stored of a limit that decays: two leases, two waiters, two ids that ended, a sample of its history. */
export const VERSION_3 = `
CREATE TABLE schema (version INTEGER NOT NULL);
INSERT INTO schema VALUES (3);
CREATE TABLE itself (identity TEXT NOT NULL, state TEXT NOT NULL, used_at INTEGER NOT NULL);
INSERT INTO itself VALUES ('{"name":"fixture","id":"89ce4db7-e2e6-4580-b992-7c896301fdb1","origin":"configured","policy":null,"version":1795705618965,"idleMs":null,"updatedBy":null,"createdAt":1795705619018,"updatedAt":1795705619018,"alive":true,"listed":true,"reported":true,"since":1795705618965}', '{"settings":{"limit":5,"slotDecayPerSecond":0.5,"active":true},"clock":{"lastAt":1795705625126,"offsetMs":1},"unleased":0,"totals":{"grantedAtOnce":4,"grantedAfterWait":0,"denied":1,"timedOut":0,"released":1,"expired":0,"waits":{"counts":[4,0,0,0,0,0,0,0,0,0,0,0],"sumMs":0},"holds":{"counts":[0,0,0,1,0,0,0,0,0,0,0,0],"sumMs":113}},"meanHeldMs":113,"nextSeq":7,"polling":{"denied":1,"at":1795705625108,"averageHeldMs":1811.3},"level":{"at":1795705625126,"total":"1001500000000000000","top":"1000000000000000000"},"sample":[1795705625000,2,2,1795705625125,5,2,2,0.5,0,0,1,0,0]}', 1795705625125);
CREATE TABLE entry (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO entry VALUES ('lease-of-one', 2, '{"id":"lease-of-one","slots":1,"mode":"concurrency","holder":null,"held":false,"print":"a2dziu1a3cgm5","remember":true,"leaseMs":86400000,"wants":"lease","seq":2,"state":"leased","standing":"parked","enforced":true,"since":1795705619173,"waitedMs":0,"giveUpAt":1795705619173,"expiresAt":1795792019173,"peers":[],"claims":0,"until":1795792019173,"band":{"own":"1000000000000000000","below":"0","order":2}}');
INSERT INTO entry VALUES ('lease-of-two', 1, '{"id":"lease-of-two","slots":2,"mode":"concurrency","holder":"someone","held":false,"print":"q9jhkyyotdn2","remember":true,"leaseMs":86400000,"wants":"lease","seq":1,"state":"leased","standing":"parked","enforced":true,"since":1795705619129,"waitedMs":0,"giveUpAt":1795705619129,"expiresAt":1795792019129,"peers":[],"claims":0,"until":1795792019129,"band":{"own":"2000000000000000000","below":"0","order":1}}');
INSERT INTO entry VALUES ('waiter', 5, '{"id":"waiter","slots":5,"mode":"concurrency","holder":null,"held":false,"print":"18e3j5818qadtp","remember":true,"leaseMs":60000,"wants":"lease","seq":5,"state":"waiting","standing":"present","enforced":true,"since":1795705619468,"waitedMs":0,"giveUpAt":null,"expiresAt":null,"peers":[],"claims":0,"until":null}');
INSERT INTO entry VALUES ('waiter-2', 6, '{"id":"waiter-2","slots":1,"mode":"concurrency","holder":null,"held":false,"print":"xwxwdst5pa3m","remember":true,"leaseMs":60000,"wants":"lease","seq":6,"state":"waiting","standing":"present","enforced":true,"since":1795705625126,"waitedMs":0,"giveUpAt":null,"expiresAt":null,"peers":[],"claims":0,"until":null}');
CREATE TABLE ended (id TEXT PRIMARY KEY, until INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO ended VALUES ('given-back', 1795705919327, '{"id":"given-back","kind":"lease","print":"xwxwdst5pa3m","slots":1,"enforced":true,"until":1795705919327,"limitId":"89ce4db7-e2e6-4580-b992-7c896301fdb1"}');
INSERT INTO ended VALUES ('receipt', 1795705679423, '{"id":"receipt","kind":"receipt","print":"1cjx03110d87qy","slots":1,"enforced":true,"until":1795705679423,"limitId":"89ce4db7-e2e6-4580-b992-7c896301fdb1"}');
CREATE INDEX ended_until ON ended (until);
CREATE TABLE history (starts_at INTEGER PRIMARY KEY, sample TEXT NOT NULL);
INSERT INTO history VALUES (1795705615000, '[1795705615000,4,1,1795705619467,5,4,1,0.5,4,0,0,1,0]');
`;

/** Within a second of its last commit. */
export const VERSION_3_AT = 1_795_705_625_500;
