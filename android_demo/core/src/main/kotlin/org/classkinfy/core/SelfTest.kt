package org.classkinfy.core

import org.json.JSONArray
import org.json.JSONObject

/**
 * Replays the golden vectors in an opened session, on this very device and engine, and compares every
 * tensor with PyTorch's.
 *
 * Golden vectors are of fp32. What another precision changes on purpose (what is made of the network's
 * answer) is told and held to the manifest's limits for that precision: how many cases are decided
 * otherwise, and how far probabilities move. Everything before the network is held as in fp32.
 */
object SelfTest {
    /** The largest difference of a tensor, of one case. */
    class Check(
        @JvmField val case: String,
        @JvmField val tensor: String,
        /** Absolute; infinite for another shape or dtype, for NaN, and where only hashes differ. */
        @JvmField val largest: Double,
        /** Null of one that is told. */
        @JvmField val tolerance: Double?,
    ) {
        @JvmField val passed: Boolean = largest <= (tolerance ?: Double.MAX_VALUE)

        override fun toString(): String = "$case: $tensor is off by $largest, $tolerance is allowed"
    }

    class Report(
        /** Format, precision and form. */
        @JvmField val label: String,
        @JvmField val cases: Int,
        @JvmField val checks: List<Check>,
        /** What failed, in words; empty when it passed. */
        @JvmField val failures: List<String>,
        /** Cases with another decision than PyTorch's. */
        @JvmField val flips: Int,
    ) {
        @JvmField val passed: Boolean = failures.isEmpty()

        /** The worst of each tensor. */
        fun worst(): Map<String, Check> =
            checks.groupBy { it.tensor }.mapValues { (_, all) -> all.maxByOrNull { it.largest }!! }

        fun toJson(): JSONObject {
            val tensors = JSONObject()
            for ((name, check) in worst()) {
                val largest = if (check.largest.isInfinite()) "infinite" else check.largest
                val entry = JSONObject().put("largest", largest)
                tensors.put(name, entry.put("tolerance", check.tolerance ?: JSONObject.NULL))
            }
            return JSONObject()
                .put("label", label)
                .put("passed", passed)
                .put("cases", cases)
                .put("flips", flips)
                .put("failures", JSONArray(failures))
                .put("tensors", tensors)
        }
    }

    /**
     * @return whether this engine agrees, and where it does not; an engine that fails has not passed
     * @throws BundleException the bundle has no golden vectors, or they are damaged
     */
    @JvmStatic
    fun run(session: Session): Report {
        val cases = Golden.cases(session.bundle)
        val replay = Replay(session)
        for (case in cases) {
            val image = case.image()
            val graded = if (session.form == Form.STAGED) case.graded else emptyList()
            try {
                replay.compare(case, session.run(image, graded))
            } catch (error: EngineException) {
                replay.failures += "${case.name}: ${error.message}"
            }
        }
        return replay.report(cases.size)
    }
}

/** What was seen of the cases so far. */
private class Replay(private val session: Session) {
    private val manifest = session.bundle.manifest
    private val runtime = Parity.name(session.runtime)
    private val asFloat = session.precision == "fp32"
    private val checks = ArrayList<SelfTest.Check>()
    private val shifts = ArrayList<Double>()
    private var flips = 0
    val failures = ArrayList<String>()

    fun compare(case: GoldenCase, actual: Map<String, Tensor>) {
        for ((name, wanted) in case.expected) {
            val given = actual[name]
            if (given == null && session.form == Form.FUSED) continue // which gives less
            // The grade of another diagnosis, which was counted as another decision.
            if (!asFloat && name == "severity" && differs(case, actual, "diagnosis")) continue
            val largest = if (given == null) Double.POSITIVE_INFINITY else difference(name, wanted, given)
            checks += SelfTest.Check(case.name, name, largest, tolerance(name))
        }
        val probabilities = case.expected.getValue("probabilities").values
            ?: throw badBundle("golden case ${case.name} has no numbers for probabilities", "export it again")
        val given = actual.getValue("probabilities").floats()
        shifts += probabilities.indices.maxOf { Math.abs(probabilities[it] - given[it]) }
        if (DECIDING.any { differs(case, actual, it) }) flips++
    }

    fun report(cases: Int): SelfTest.Report {
        failures += checks.filterNot { it.passed }.map { it.toString() }
        if (asFloat && flips > 0) failures += "$flips of $cases cases are decided otherwise than by PyTorch"
        if (!asFloat && shifts.isNotEmpty()) {
            val drift = manifest.parity.drift(session.precision)
            val meanShift = manifest.parity.meanShift(session.precision)
            if (flips > drift * cases) failures += "$flips of $cases cases are decided otherwise, $drift of them may be"
            val mean = shifts.sum() / shifts.size
            if (mean > meanShift) failures += "probabilities move by $mean in the mean, $meanShift is allowed"
        }
        return SelfTest.Report(session.label, cases, checks, failures, flips)
    }

    private fun tolerance(tensor: String): Double? =
        if (!asFloat && MADE_OF_THE_ANSWER.any(tensor::startsWith)) null
        else manifest.parity.tolerance(runtime, tensor)

    private fun difference(name: String, wanted: Expected, given: Tensor): Double {
        if (given.dtype != wanted.dtype || !given.shape.contentEquals(wanted.shape)) return Double.POSITIVE_INFINITY
        val values = wanted.values ?: return if (sha256(given.data) == wanted.sha256) 0.0 else Double.POSITIVE_INFINITY
        val numbers = numbers(given)
        return values.indices.maxOf { i ->
            val off = Math.abs(values[i] - numbers[i])
            val ungraded = name == "severity" && values[i].isNaN() && numbers[i].isNaN()
            if (ungraded) 0.0 else if (off.isNaN()) Double.POSITIVE_INFINITY else off
        }
    }

    private fun differs(case: GoldenCase, actual: Map<String, Tensor>, name: String): Boolean {
        val wanted = case.expected[name]?.values ?: return false
        val given = numbers(actual.getValue(name))
        return if (wanted.size == 1) wanted[0] != given[0] else likeliest(wanted) != likeliest(given)
    }

    private fun likeliest(values: DoubleArray): Int =
        if (values.any { it.isNaN() }) -1 else Session.argmax(FloatArray(values.size) { values[it].toFloat() })

    private fun numbers(tensor: Tensor): DoubleArray = when (tensor.dtype) {
        Dtype.FLOAT32 -> tensor.floats().let { all -> DoubleArray(all.size) { all[it].toDouble() } }
        Dtype.INT32 -> tensor.ints().let { all -> DoubleArray(all.size) { all[it].toDouble() } }
        Dtype.UINT8 -> tensor.bytes().let { all -> DoubleArray(all.size) { (all[it].toInt() and 255).toDouble() } }
    }

    private companion object {
        val MADE_OF_THE_ANSWER = listOf("embedding", "probabilities", "confidence", "severity", "diagnosis")
        val DECIDING = listOf("accepted", "reasons", "diagnosis", "probabilities", "severity")
    }
}
