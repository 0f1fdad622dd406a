BEGIN TRANSACTION;
CREATE TABLE alarm_changes (
	id INTEGER NOT NULL, 
	time DOUBLE NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	cause VARCHAR(16) NOT NULL, 
	"before" VARCHAR(16) NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	user VARCHAR(64) NOT NULL, 
	comment TEXT NOT NULL, 
	alarm JSON NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE alarm_states (
	name VARCHAR(128) NOT NULL, 
	content JSON NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	time DOUBLE NOT NULL, 
	user VARCHAR(64) NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	target VARCHAR(256) NOT NULL, 
	comment TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE certification (
	id INTEGER NOT NULL, 
	time DOUBLE NOT NULL, 
	user VARCHAR(64) NOT NULL, 
	action VARCHAR(16) NOT NULL, 
	run BIGINT NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	fault VARCHAR(64) NOT NULL, 
	subject BIGINT, 
	comment TEXT NOT NULL, 
	content JSON NOT NULL, 
	record JSON, 
	PRIMARY KEY (id)
);
CREATE TABLE dqm_schema (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "dqm_schema" VALUES(1,7);
CREATE TABLE explanations (
	stream VARCHAR(64) NOT NULL, 
	run BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	content JSON NOT NULL, 
	PRIMARY KEY (stream, run, seq)
);
CREATE TABLE notices (
	target VARCHAR(64) NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	cause VARCHAR(16) NOT NULL, 
	raised_at DOUBLE NOT NULL, 
	is_open INTEGER NOT NULL, 
	time DOUBLE NOT NULL, 
	PRIMARY KEY (target, stream, cause)
);
INSERT INTO "notices" VALUES('shift-mail','','',1690000000.0,0,1690000000.0);
INSERT INTO "notices" VALUES('shift-mail','chamber-1','silent',1700000000.0,1,1700000016.0);
CREATE TABLE runs (
	stream VARCHAR(64) NOT NULL, 
	run BIGINT NOT NULL, 
	run_type VARCHAR(64) NOT NULL, 
	position BIGINT NOT NULL, 
	began_at DOUBLE, 
	ended_at DOUBLE, 
	why TEXT NOT NULL, 
	noted_at DOUBLE NOT NULL, 
	resumed_at DOUBLE, 
	PRIMARY KEY (stream, run)
);
INSERT INTO "runs" VALUES('chamber-1',7,'cosmics',1,1690000000.0,1690000060.5,'operator',1690000061.0,1690000030.25);
CREATE TABLE verdicts (
	id INTEGER NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	run BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	run_type VARCHAR(64) NOT NULL, 
	origin VARCHAR(16) NOT NULL, 
	start_time DOUBLE, 
	end_time DOUBLE, 
	n_lost BIGINT NOT NULL, 
	n_data BIGINT NOT NULL, 
	n_expected DOUBLE NOT NULL, 
	t DOUBLE, 
	p DOUBLE, 
	p_low DOUBLE, 
	p_high DOUBLE, 
	p_method VARCHAR(16), 
	z DOUBLE, 
	result_reason TEXT NOT NULL, 
	tau DOUBLE, 
	delta DOUBLE, 
	nuisances JSON NOT NULL, 
	remarks JSON NOT NULL, 
	warnings JSON NOT NULL, 
	rate JSON, 
	channels JSON, 
	nan JSON, 
	rolling JSON, 
	conditions JSON NOT NULL, 
	digest VARCHAR(32) NOT NULL, 
	is_late BOOLEAN NOT NULL, 
	quality VARCHAR(8) NOT NULL, 
	reason TEXT NOT NULL, 
	bundle VARCHAR(128) NOT NULL, 
	seconds DOUBLE NOT NULL, 
	judged_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT verdict_identity UNIQUE (stream, run, seq)
);
INSERT INTO "verdicts" VALUES(1,'chamber-1',7,3,'cosmics','simulated',1690000000.0,1690000010.0,0,512,500.25,201.5,0.0003,0.0002,0.0005,'tail',3.43,'',215.25,13.75,'{"gas": {"measured": 0.003, "reference": {"value": 0.002, "error": 0.001, "pull": -1.5}, "alternative": {"value": 0.0025, "error": 0.0015, "pull": -0.5}}}','["rate has no measurement: fitted without it"]','{}','{"cut": "time", "n_expected": 487.5, "uncertainty": 0.02, "live_seconds": 10.0, "p": 1e-15, "z": -7.94}',NULL,NULL,NULL,'{}','4f3368936150369a6be035e5050186af',FALSE,'Bad','p = 0.0003 is below 0.001','3f9a',0.25,1700000000.0);
CREATE INDEX runs_by_number ON runs (run);
CREATE INDEX runs_by_time ON runs (noted_at);
CREATE INDEX verdicts_of_stream ON verdicts (stream, id);
CREATE INDEX verdicts_of_quality ON verdicts (stream, quality, id);
CREATE INDEX verdicts_of_run ON verdicts (run, id);
CREATE INDEX verdicts_by_time ON verdicts (judged_at);
CREATE INDEX alarm_changes_of_stream ON alarm_changes (stream, id);
CREATE INDEX alarm_changes_by_time ON alarm_changes (time);
CREATE INDEX certification_of_action ON certification (action, run, id);
CREATE INDEX certification_of_run ON certification (run, id);
COMMIT;
