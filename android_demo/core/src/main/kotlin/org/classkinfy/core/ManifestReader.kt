package org.classkinfy.core

/** Reads a manifest as something hostile: bounded sizes, known words, references that hold. */
internal class ManifestReader(private val json: Json) {
    fun read(): Manifest {
        checkVersion()
        val taxonomy = taxonomy(json.member("taxonomy"))
        val capture = capture(json.member("capture"))
        val measures = texts(json.member("quality_measures"))
        val stages = json.member("stages").items().map { stage(it, taxonomy) }
        val pipeline = json.optional("pipeline")?.let { stage(it, taxonomy) }
        val files = json.member("files").members().mapValues { (path, entry) -> file(path, entry) }
        val wiring = Wiring(json, taxonomy, capture, measures)
        wiring.check(stages)
        pipeline?.let(wiring::checkPipeline)
        return Manifest(
            name = json.member("name").text(),
            disclaimer = json.member("disclaimer").text(),
            severityNotice = json.member("severity_notice").text(),
            weightsLicence = json.member("weights_licence").text(),
            taxonomy = taxonomy,
            capture = capture,
            fit = json.member("fit").word(mapOf("crop" to Fit.CROP, "pad" to Fit.PAD)),
            qualityMeasures = measures,
            qualityRules = rules(json.member("quality_rules"), measures),
            stages = stages,
            pipeline = pipeline,
            models = json.member("models").items().map { model(it, stages + listOfNotNull(pipeline), files) },
            parity = Parity.read(json.member("parity")),
            files = files,
        )
    }

    private fun checkVersion() {
        val version = json.member("schema_version").whole(0L..Long.MAX_VALUE)
        if (version > Manifest.SCHEMA_VERSION) {
            throw badBundle(
                "the bundle has schema version $version, this app reads ${Manifest.SCHEMA_VERSION}",
                "update the app",
            )
        }
        if (version < Manifest.SCHEMA_VERSION) {
            throw badBundle(
                "the bundle has schema version $version, this app reads ${Manifest.SCHEMA_VERSION}",
                "export the bundle again",
            )
        }
    }

    private fun taxonomy(json: Json): Taxonomy {
        fun words(key: String, least: Int): List<String> {
            val member = json.member(key)
            val words = member.items().map { it.text(WORD) }
            if (words.size < least) member.refuse("has ${words.size} entries, expected $least or more")
            if (words.distinct().size != words.size) member.refuse("names something twice")
            return words
        }
        val classes = words("classes", 2)
        fun some(key: String): List<String> = words(key, 0).also {
            val unknown = it - classes.toSet()
            if (unknown.isNotEmpty()) json.member(key).refuse("names $unknown, not among the classes")
        }
        return Taxonomy(
            classes = classes,
            graded = some("graded"),
            malignant = some("malignant"),
            severities = words("severities", 2),
            names = json.member("names").members().mapValues { it.value.text() },
        )
    }

    private fun capture(json: Json): Capture {
        val capture = Capture(
            json.member("height").int(1..MAX_SIDE),
            json.member("width").int(1..MAX_SIDE),
            json.member("layout").word(Layout.values().associateBy { it.name.lowercase() }),
        )
        if (capture.layout == Layout.NV21 && (capture.height % 2 != 0 || capture.width % 2 != 0)) {
            json.refuse("is nv21 of ${capture.height} x ${capture.width}, which needs an even size")
        }
        return capture
    }

    private fun rules(json: Json, measures: List<String>): List<QualityRule> {
        val rules = json.items().map { rule ->
            val measure = rule.member("measure").text()
            if (measure !in measures) rule.refuse("is on an unknown measure")
            val above = rule.optional("above")?.number()?.toFloat()
            val below = rule.optional("below")?.number()?.toFloat()
            if ((above == null) == (below == null)) rule.refuse("has not one limit of above and below")
            val refuses = rule.member("effect").word(mapOf("refuse" to true, "advise" to false))
            QualityRule(measure, rule.member("reason").text(), above, below, refuses)
        }
        if (rules.size > MAX_RULES) json.refuse("has ${rules.size} rules, more than the bits of reasons")
        return rules
    }

    private fun stage(json: Json, taxonomy: Taxonomy): StageSpec {
        val kind = json.member("kind").word(StageKind.values().associateBy { it.name.lowercase() })
        val name = json.member("name").text(WORD)
        val diagnosis = json.optional("diagnosis")?.text()
        if ((kind == StageKind.GRADE) != (diagnosis != null)) json.refuse("has a diagnosis only if it grades")
        if (diagnosis != null && diagnosis !in taxonomy.graded) json.refuse("grades what is not graded")
        val inputs = json.member("inputs").items().map(::tensor)
        return StageSpec(name, kind, inputs, json.member("outputs").items().map(::tensor), diagnosis)
    }

    private fun tensor(json: Json): TensorSpec {
        val dtype = json.member("dtype").word(Dtype.values().associateBy { it.label })
        val shape = json.member("shape").items().map { it.int(1..MAX_TENSOR_BYTES) }.toIntArray()
        val bytes = shape.fold(dtype.bytes.toLong()) { all, length -> minOf(all * length, Int.MAX_VALUE.toLong()) }
        if (bytes > MAX_TENSOR_BYTES) json.refuse("has more than $MAX_TENSOR_BYTES bytes")
        val unit = json.member("unit").text()
        return TensorSpec(json.member("name").text(WORD), dtype, shape, unit, json.member("exact").truth())
    }

    private fun model(json: Json, stages: List<StageSpec>, files: Map<String, FileEntry>): ModelFile {
        val path = json.member("path").text()
        if (path !in files) json.refuse("has no hash under files")
        val entries = json.member("entries").members().mapValues { it.value.text() }
        val unknown = entries.keys - stages.map { it.name }.toSet()
        if (unknown.isNotEmpty()) json.refuse("holds stages that the manifest does not describe")
        return ModelFile(path, json.member("format").text(WORD), json.member("precision").text(WORD), entries)
    }

    private fun file(path: String, json: Json): FileEntry {
        val parts = path.split("/")
        if ("\\" in path || ":" in path || "\u0000" in path || parts.any { it in setOf("", ".", "..") }) {
            json.refuse("is not a plain relative path")
        }
        return FileEntry(json.member("sha256").text(SHA256), json.member("size_bytes").whole(0..MAX_FILE_BYTES))
    }

    private fun texts(json: Json): List<String> = json.items().map { it.text(WORD) }

    private companion object {
        const val MAX_SIDE = 8192
        const val MAX_RULES = 31
        const val MAX_TENSOR_BYTES = 1 shl 28
        const val MAX_FILE_BYTES = 1L shl 30
        val WORD = Regex("[a-z][a-z0-9_]*")
        val SHA256 = Regex("[0-9a-f]{64}")
    }
}

/** Whether the stages fit together, so that running them never meets a tensor that is not there. */
private class Wiring(
    private val json: Json,
    taxonomy: Taxonomy,
    capture: Capture,
    measures: List<String>,
) {
    private val image = TensorSpec("image", Dtype.UINT8, capture.shape, "", exact = true)
    private val known = listOf(
        image,
        floats("quality", measures.size),
        floats("preliminary", taxonomy.classes.size),
        floats("probabilities", taxonomy.classes.size),
        floats("severity", taxonomy.severities.size),
        TensorSpec("confidence", Dtype.FLOAT32, intArrayOf(1), "", exact = false),
        TensorSpec("accepted", Dtype.INT32, intArrayOf(1), "", exact = true),
        TensorSpec("reasons", Dtype.INT32, intArrayOf(1), "", exact = true),
        TensorSpec("diagnosis", Dtype.INT32, intArrayOf(1), "", exact = true),
    ).associateBy { it.name }

    fun check(stages: List<StageSpec>) {
        if (stages.map { it.name }.distinct().size != stages.size) json.refuse("names a stage twice")
        val given = mutableMapOf("image" to image)
        for (stage in stages.filter { it.kind != StageKind.GRADE }) {
            if (stage.kind == StageKind.PIPELINE) json.refuse("lists the fused graph as a stage")
            reads(stage, given)
            for (output in stage.outputs) given[output.name] = asKnown(stage, output)
        }
        for (name in listOf("quality", "probabilities")) {
            if (name !in given) json.refuse("has no stage that gives $name")
        }
        val graders = stages.filter { it.kind == StageKind.GRADE }
        if (graders.map { it.diagnosis }.distinct().size != graders.size) json.refuse("grades a class twice")
        for (stage in graders) {
            reads(stage, given)
            stage.outputs.forEach { asKnown(stage, it) }
            if (stage.outputs.none { it.name == "severity" }) json.refuse("stage ${stage.name} gives no severity")
        }
    }

    fun checkPipeline(stage: StageSpec) {
        if (stage.name != Manifest.PIPELINE || stage.kind != StageKind.PIPELINE) {
            json.refuse("calls the fused graph ${stage.name}")
        }
        reads(stage, mapOf("image" to image))
        val outputs = stage.outputs.map { asKnown(stage, it).name }
        val missing = known.keys - setOf("image", "preliminary") - outputs.toSet()
        if (missing.isNotEmpty()) json.refuse("has a fused graph without $missing")
    }

    private fun reads(stage: StageSpec, given: Map<String, TensorSpec>) {
        for (input in stage.inputs) {
            val reads = "stage ${stage.name} reads ${input.name}"
            val earlier = given[input.name] ?: json.refuse("$reads, which no stage gave")
            if (!same(input, earlier)) json.refuse("$reads in another dtype or shape than it was given")
        }
    }

    private fun asKnown(stage: StageSpec, output: TensorSpec): TensorSpec {
        val wanted = known[output.name]
        if (wanted != null && !same(output, wanted)) {
            json.refuse(
                "stage ${stage.name} gives ${output.name} as ${shown(output)}, expected ${shown(wanted)}",
            )
        }
        return output
    }

    private fun shown(spec: TensorSpec) = "${spec.dtype.label} ${spec.shape.contentToString()}"

    private fun same(one: TensorSpec, other: TensorSpec) =
        one.dtype == other.dtype && one.shape.contentEquals(other.shape)

    private fun floats(name: String, size: Int) =
        TensorSpec(name, Dtype.FLOAT32, intArrayOf(1, size), "", exact = false)
}
