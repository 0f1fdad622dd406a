BEGIN TRANSACTION;
CREATE TABLE dqm_schema (
	id INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "dqm_schema" VALUES(1,1);
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
	quality VARCHAR(8) NOT NULL, 
	reason TEXT NOT NULL, 
	bundle VARCHAR(128) NOT NULL, 
	seconds DOUBLE NOT NULL, 
	judged_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT verdict_identity UNIQUE (stream, run, seq)
);
INSERT INTO "verdicts" VALUES(1,'chamber-1',7,3,'cosmics','simulated',1690000000.0,1690000010.0,0,512,500.25,201.5,0.0003,0.0002,0.0005,'tail',3.43,'','Bad','p = 0.0003 is below 0.001','3f9a',0.25,1700000000.0);
CREATE INDEX verdicts_by_time ON verdicts (judged_at);
COMMIT;
